// The small model of the tests, opened once.
#pragma once

#include <cstdlib>

#include "aasist/aasist.h"

inline aasist_model* fuzz_model() {
  static aasist_model* const model = [] {
    aasist_options options{};
    aasist_model* opened = nullptr;
    aasist_options_init(&options, sizeof options);
    options.threads = 1;
    if (aasist_open(FUZZ_MODEL, &options, &opened) != AASIST_OK) std::abort();
    return opened;
  }();
  return model;
}

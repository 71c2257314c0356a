// The small models of the tests, opened once.
#pragma once

#include <cstdlib>

#include "aasist/aasist.h"

inline aasist_model* fuzz_open(const char* path) {
  aasist_options options{};
  aasist_model* opened = nullptr;
  aasist_options_init(&options, sizeof options);
  options.threads = 1;
  if (aasist_open(path, &options, &opened) != AASIST_OK) std::abort();
  return opened;
}

// Windows alone.
inline aasist_model* fuzz_model() {
  static aasist_model* const model = fuzz_open(FUZZ_MODELS "/tiny.onnx");
  return model;
}

// A file for streams, with frames of 100 samples.
inline aasist_model* fuzz_stream_model() {
  static aasist_model* const model = fuzz_open(FUZZ_MODELS "/tiny-stream.onnx");
  return model;
}

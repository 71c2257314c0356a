// The command line of aasist-score.
#pragma once

#include <aasist/aasist.h>

#include <cstdint>
#include <string>
#include <vector>

struct Arguments {
  std::string model;
  std::vector<std::string> files;
  bool jsonl = false;
  aasist_options options{};
  aasist_pcm pcm = AASIST_PCM_S16LE;
  int32_t rate_hz = 16000;
  int32_t channels = 1;
  double hop_s = 0;        // 0: about a second
  uint64_t hop_frames = 0;  // 0: not given
  bool shared_frames = false;  // --stream: refuse a model that is no file for streams
};

// What a person did wrong, in one line.
struct BadUsage {
  std::string message;
};

// Prints and exits for --help and --version; throws BadUsage.
Arguments parse(int argc, char** argv);

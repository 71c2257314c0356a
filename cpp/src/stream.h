// Raw PCM as it arrives, scored in sliding windows, each alone.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "aasist/aasist.h"
#include "audio.h"
#include "engine.h"

namespace aasist {

// Samples of one type to floats in [-1, 1): x / 2^(bits - 1), as libsndfile scales files.
size_t pcm_bytes(int32_t format);  // 0 for a format that is not known
void pcm_to_float(int32_t format, const uint8_t* bytes, size_t n_values, float* out);

// What starts and ends windows is as in Python's streaming.WindowScorer. One thread at a time.
class Stream {
 public:
  // Throws Error(AASIST_USAGE).
  Stream(const Engine& engine, int32_t format, int64_t rate_hz, int channels, uint64_t hop_samples);

  // Throws Error: AASIST_AUDIO for NaN or infinite samples, after which the stream is at its end.
  void push(const uint8_t* bytes, size_t n_bytes);
  void finish();
  std::optional<aasist_window_score> next();

 private:
  void take(const uint8_t* bytes, size_t n_frames);
  void score_whole_windows();
  void score_window(const float* wave, uint64_t end);
  void check_open() const;

  const Engine& engine_;
  const int32_t format_;
  const size_t channels_;
  const size_t frame_bytes_;
  const uint64_t window_;
  const uint64_t hop_;
  std::optional<Resampler> resampler_;
  std::vector<uint8_t> rest_;     // the start of a frame whose end has not come
  std::vector<float> values_;     // one block, interleaved
  std::vector<float> mixed_;      // one block, mono
  std::vector<float> waiting_;    // samples from `waiting_start_` on
  uint64_t waiting_start_ = 0;    // position of the first of them in the stream, at the model's rate
  uint64_t next_start_ = 0;       // where the next window starts
  uint64_t n_frames_ = 0;         // taken so far
  uint64_t index_ = 0;
  bool ended_ = false;
  std::deque<aasist_window_score> finished_;
};

}  // namespace aasist

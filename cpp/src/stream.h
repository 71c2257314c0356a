// Raw PCM as it arrives, scored in sliding windows.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "aasist/aasist.h"
#include "audio.h"
#include "engine.h"
#include "windows.h"

namespace aasist {

// Samples of one type to floats in [-1, 1): x / 2^(bits - 1), as libsndfile scales files.
size_t pcm_bytes(int32_t format);  // 0 for a format that is not known
void pcm_to_float(int32_t format, const uint8_t* bytes, size_t n_values, float* out);

// One thread at a time.
class Stream {
 public:
  // Throws Error(AASIST_USAGE).
  Stream(const Engine& engine, int32_t format, int64_t rate_hz, int channels, uint64_t hop_samples);

  // Throws Error: AASIST_AUDIO for NaN or infinite samples. After any error the stream is at its end.
  void push(const uint8_t* bytes, size_t n_bytes);
  void finish();
  std::optional<aasist_window_score> next() { return windows_->next(); }

 private:
  void split(const uint8_t* bytes, size_t n_bytes);
  void take(const uint8_t* bytes, size_t n_frames);
  void score_resampled();
  void check_open() const;

  const int32_t format_;
  const size_t channels_;
  const size_t frame_bytes_;
  std::optional<Resampler> resampler_;
  std::vector<uint8_t> rest_;     // the start of a frame whose end has not come
  std::vector<float> values_;     // one block, interleaved
  std::vector<float> mixed_;      // one block, mono
  std::vector<float> resampled_;  // one block at the model's rate
  std::unique_ptr<Windows> windows_;
  uint64_t n_frames_ = 0;  // taken so far
  bool ended_ = false;
};

}  // namespace aasist

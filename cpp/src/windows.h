// Sliding windows over the samples of one stream at the model's rate, as Python's streaming.WindowScorer.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "aasist/aasist.h"
#include "engine.h"

namespace aasist {

// One thread at a time.
class Windows {
 public:
  virtual ~Windows() = default;

  // Takes `n` more samples; windows that they complete are in `next`.
  virtual void push(const float* samples, size_t n) = 0;
  // Ends the stream; one shorter than a window is tiled and scored, as files are. Returns how many samples there were.
  virtual uint64_t finish() = 0;

  std::optional<aasist_window_score> next();

 protected:
  void found(uint64_t start, uint64_t end, float score);
  uint64_t n_found() const { return index_; }

 private:
  uint64_t index_ = 0;
  std::deque<aasist_window_score> finished_;
};

// Those of a file for streams share what they have in common; of any other model, each is scored alone. Throws
// Error(AASIST_USAGE) for a hop that the model does not have. The engine must live longer.
std::unique_ptr<Windows> windows_of(const Engine& engine, uint64_t hop_samples);

}  // namespace aasist

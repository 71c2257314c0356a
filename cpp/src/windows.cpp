#include "windows.h"

#include <algorithm>
#include <cmath>
#include <new>

#include "audio.h"
#include "error.h"

namespace aasist {
namespace {

// A call of more frames costs less for each, but the score at its end waits for all of them; as in Python, where
// streaming/shared_frames.py has the measurement. Equal calls give equal scores.
constexpr size_t kMaxFramesPerCall = 4;

// Sums of a runtime's kernels may start where memory is aligned, so that equal samples elsewhere have a score that
// differs in its last bit. What is scored lies at one alignment, the largest that vector units ask for.
template <typename T>
struct Aligned {
  static constexpr std::align_val_t kAlignment{64};
  using value_type = T;
  Aligned() = default;
  template <typename U>
  Aligned(const Aligned<U>&) noexcept {}
  T* allocate(size_t n) {
    if (n > SIZE_MAX / sizeof(T)) throw std::bad_alloc();
    return static_cast<T*>(::operator new(n * sizeof(T), kAlignment));
  }
  void deallocate(T* at, size_t) noexcept { ::operator delete(at, kAlignment); }
  bool operator==(const Aligned&) const noexcept { return true; }
  bool operator!=(const Aligned&) const noexcept { return false; }
};
using AlignedFloats = std::vector<float, Aligned<float>>;

// Every window by a pass of its own.
class EachWindow final : public Windows {
 public:
  EachWindow(const Engine& engine, uint64_t hop)
      : engine_(engine), window_(static_cast<uint64_t>(*engine.contract().n_samples)), hop_(hop) {}

  void push(const float* samples, size_t n) override {
    waiting_.insert(waiting_.end(), samples, samples + n);
    for (;;) {
      // Samples that no window starts from any more; a hop above the window skips some that have not come yet.
      const uint64_t passed = std::min<uint64_t>(next_start_ - waiting_start_, waiting_.size());
      const uint64_t available = waiting_.size() - passed;
      if (waiting_start_ + passed == next_start_ && available >= window_) {
        score_window(waiting_.data() + passed, next_start_ + window_);
        next_start_ += hop_;
        continue;
      }
      waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(passed));
      waiting_start_ += passed;
      return;
    }
  }

  uint64_t finish() override {
    const uint64_t n_samples = waiting_start_ + waiting_.size();
    if (n_found() > 0 || waiting_.empty()) return n_samples;
    std::vector<float> window(static_cast<size_t>(window_));
    fit_length(waiting_.data(), waiting_.size(), window.data(), window.size());
    score_window(window.data(), n_samples);
    return n_samples;
  }

 private:
  void score_window(const float* wave, uint64_t end) {
    float score = 0;
    scored_.assign(wave, wave + window_);
    engine_.score(scored_.data(), 1, scored_.size(), &score);
    found(next_start_, end, score);
  }

  const Engine& engine_;
  const uint64_t window_;
  const uint64_t hop_;
  AlignedFloats scored_;
  std::vector<float> waiting_;  // samples from `waiting_start_` on
  uint64_t waiting_start_ = 0;  // position of the first of them in the stream
  uint64_t next_start_ = 0;     // where the next window starts
};

// Each frame of the stream is computed once; the contract's layout says how the file is called. How samples are cut
// into calls follows from the hop alone, so that scores do not depend on what is pushed at once.
class SharedFrames final : public Windows {
 public:
  SharedFrames(const Engine& engine, uint64_t hop)
      : engine_(engine),
        layout_(*engine.contract().stream),
        hop_(hop),
        frames_per_call_(std::min(kMaxFramesPerCall, layout_.max_frames)),
        state_(layout_.state_size),
        waiting_(layout_.lead_samples),
        to_end_((layout_.window_samples + layout_.lead_samples) / layout_.frame_samples) {}

  void push(const float* samples, size_t n) override {
    n_samples_ += n;
    waiting_.insert(waiting_.end(), samples, samples + n);
    if (n_samples_ < layout_.window_samples) {
      start_.insert(start_.end(), samples, samples + n);
    } else {
      start_ = {};
    }
    run();
  }

  uint64_t finish() override {
    if (!start_.empty()) {
      std::fill(state_.begin(), state_.end(), 0.0F);
      waiting_.assign(layout_.lead_samples + layout_.window_samples, 0.0F);
      fit_length(start_.data(), start_.size(), waiting_.data() + layout_.lead_samples, layout_.window_samples);
      to_end_ = waiting_.size() / layout_.frame_samples;
      run();
    }
    return n_samples_;
  }

 private:
  void run() {
    size_t at = 0;
    for (;;) {
      const auto n_frames = static_cast<size_t>(std::min<uint64_t>(to_end_, frames_per_call_));
      const size_t n = n_frames * layout_.frame_samples;
      if (waiting_.size() - at < n) break;
      scored_.assign(waiting_.data() + at, waiting_.data() + at + n);
      const float score = engine_.step(scored_.data(), n, state_.data());
      at += n;
      to_end_ -= n_frames;
      if (to_end_ > 0) continue;
      to_end_ = hop_ / layout_.frame_samples;
      const uint64_t start = n_found() * hop_;
      found(start, std::min(start + layout_.window_samples, n_samples_), score);
    }
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(at));
  }

  const Engine& engine_;
  const StreamLayout& layout_;
  const uint64_t hop_;
  const size_t frames_per_call_;
  AlignedFloats scored_;
  AlignedFloats state_;
  std::vector<float> waiting_;  // samples that no call has taken
  std::vector<float> start_;    // of the stream, until a window is complete
  uint64_t n_samples_ = 0;
  uint64_t to_end_;  // frames until the next window ends
};

}  // namespace

std::optional<aasist_window_score> Windows::next() {
  if (finished_.empty()) return std::nullopt;
  const auto window = finished_.front();
  finished_.pop_front();
  return window;
}

void Windows::found(uint64_t start, uint64_t end, float score) {
  if (!std::isfinite(score)) {
    throw Error(AASIST_MODEL_FILE, "The model's score of the window from sample " + std::to_string(start) + " on is " +
                                       std::to_string(score) + ".");
  }
  aasist_window_score window{};
  window.index = index_++;
  window.start = start;
  window.end = end;
  window.score = score;
  finished_.push_back(window);
}

std::unique_ptr<Windows> windows_of(const Engine& engine, uint64_t hop_samples) {
  const auto& contract = engine.contract();
  if (hop_samples == 0) throw Error(AASIST_USAGE, "The hop is 0 samples; it must be at least 1.");
  if (!contract.n_samples) {
    throw Error(AASIST_USAGE, "A model of variable length has no window to slide.", "export it with --samples trained");
  }
  if (!contract.stream) return std::make_unique<EachWindow>(engine, hop_samples);
  const uint64_t frame = contract.stream->frame_samples;
  if (hop_samples % frame != 0) {
    const uint64_t below = hop_samples / frame * frame;
    throw Error(AASIST_USAGE,
                "The hop is " + std::to_string(hop_samples) + " samples; windows that share their frames start at multiples of " +
                    std::to_string(frame) + ".",
                "take a hop of " + (below > 0 ? std::to_string(below) + " or " : "") + std::to_string(below + frame) +
                    ", or a file exported without --stream");
  }
  return std::make_unique<SharedFrames>(engine, hop_samples);
}

}  // namespace aasist

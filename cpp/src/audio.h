// Any file that libsndfile or the second decoder reads, to mono float samples at the model's rate, as aasist_deploy.audio does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

struct soxr;

namespace aasist {

// Outside, a header is damaged or hostile.
inline constexpr int64_t kMinRateHz = 1000;
inline constexpr int64_t kMaxRateHz = 1536000;
inline constexpr int kMaxChannels = 1024;  // libsndfile's own limit (SF_MAX_CHANNELS)

// One soxr stream of mono samples, of the quality that Python uses.
class Resampler {
 public:
  Resampler(int32_t from_hz, int32_t to_hz);
  ~Resampler();
  Resampler(const Resampler&) = delete;
  Resampler& operator=(const Resampler&) = delete;

  // Appends what `n` more samples give to `out`.
  void push(const float* samples, size_t n, std::vector<float>& out);
  // Appends what is still inside; nothing may be pushed afterwards.
  void finish(std::vector<float>& out);

 private:
  void run(const float* samples, size_t n, std::vector<float>& out);

  soxr* soxr_ = nullptr;
  double ratio_;
  std::vector<float> room_;
};

// (n frames, channels) interleaved -> n samples appended to `out`: the mean over channels, taken in double
// precision so that equal channels stay exact.
void append_mono(const float* frames, size_t n, int channels, std::vector<float>& out);

// Position of the first frame with NaN or infinity.
std::optional<size_t> first_not_finite(const float* frames, size_t n, int channels);

struct Audio {
  std::vector<float> wave;  // at least one sample
  int32_t source_rate_hz = 0;
  int32_t source_channels = 0;
  bool second_decoder = false;  // libsndfile refused the file, and the other decoder did not
  double seconds = 0;  // of the file: decoded, or as the header says when only a start was read
};

// Throws Error: AASIST_AUDIO for the file, AASIST_USAGE for `rate_hz`. Reads no more of the file than
// `max_samples` (0: all) of the result need; they equal those of a full read.
Audio read_audio(const std::string& path, int64_t rate_hz, size_t max_samples);

// The same of a file in memory; `name` is used in messages only.
Audio read_audio_bytes(const uint8_t* bytes, size_t n_bytes, const std::string& name, int64_t rate_hz,
                       size_t max_samples);

// Throws Error(AASIST_USAGE) for a rate that no source has.
void check_rate(int64_t rate_hz);

// Writes `n_out` samples: the first of the wave, or the wave repeated until it is long enough. Source: pad()
// in data_utils.py, clovaai/aasist.
void fit_length(const float* wave, size_t n, float* out, size_t n_out);

}  // namespace aasist

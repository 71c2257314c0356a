#include "audio.h"

#include <fcntl.h>
#include <soxr.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <utility>

#include "decoders.h"
#include "error.h"

namespace aasist {
namespace {

constexpr size_t kBlockFrames = 65536;  // 4 s at 16 kHz; fewer when a file has many channels
constexpr size_t kMinBlockFrames = 4096;
constexpr int64_t kMaxSeconds = 86400;  // a day; a few bytes of compressed silence can claim far more
constexpr const char* kDecodeFix = "check that it is a whole audio file; other formats: ffmpeg -i FILE -ac 1 FILE.wav";

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

Error undecodable(const std::string& name, const std::string& reason, const std::string& fix = kDecodeFix) {
  return Error(AASIST_AUDIO, name + " cannot be decoded (" + reason + ").", fix);
}

// Whether libsndfile would hand the file to its MP3 decoder, which writes on stderr and skips damaged frames;
// Python gives such files to another decoder, so the samples would differ.
bool is_mpeg_audio(const uint8_t* head, size_t n) {
  return (n >= 3 && std::memcmp(head, "ID3", 3) == 0) || (n >= 2 && head[0] == 0xFF && (head[1] & 0xE0) == 0xE0);
}

void refuse_mpeg(const uint8_t* head, size_t n, const std::string& name) {
  if (is_mpeg_audio(head, n)) {
    throw Error(AASIST_AUDIO, name + " is MPEG audio, which this library does not decode.",
                "ffmpeg -i FILE FILE.wav, or score it with aasist-deploy score");
  }
}

Audio decode(Decoder& decoder, const std::string& name, int64_t rate_hz, size_t max_samples) {
  const auto source_hz = decoder.rate_hz;
  if (source_hz < kMinRateHz || source_hz > kMaxRateHz) {
    throw Error(AASIST_AUDIO, name + " says its sample rate is " + std::to_string(source_hz) + " Hz.");
  }
  const int channels = decoder.channels;
  std::optional<Resampler> resampler;
  if (source_hz != rate_hz) resampler.emplace(static_cast<int32_t>(source_hz), static_cast<int32_t>(rate_hz));
  const size_t n_block = std::max(kMinBlockFrames, kBlockFrames / static_cast<size_t>(channels));
  std::vector<float> block(n_block * static_cast<size_t>(channels));
  std::vector<float> mixed;
  Audio audio;
  int64_t n_read = 0;
  bool wanted = true;  // more samples than there are
  bool exhausted = true;
  for (;;) {
    const size_t n = decoder.read(block.data(), n_block);
    if (n == 0) break;
    if (const auto bad = first_not_finite(block.data(), n, channels)) {
      throw Error(AASIST_AUDIO, name + " holds NaN or infinite samples, first at " +
                                    std::to_string(n_read + static_cast<int64_t>(*bad)) + ".");
    }
    n_read += static_cast<int64_t>(n);
    if (n_read > kMaxSeconds * source_hz) {
      throw Error(AASIST_AUDIO, name + " lasts more than " + std::to_string(kMaxSeconds / 3600) + " hours.",
                  "split it first");
    }
    if (!wanted) continue;
    if (resampler) {
      mixed.clear();
      append_mono(block.data(), n, channels, mixed);
      resampler->push(mixed.data(), mixed.size(), audio.wave);
    } else {
      append_mono(block.data(), n, channels, audio.wave);
    }
    if (max_samples != 0 && audio.wave.size() >= max_samples) {
      wanted = false;
      if (decoder.whole_only) continue;
      exhausted = false;
      break;
    }
  }
  if (exhausted && n_read < decoder.n_frames) {
    throw Refused{std::to_string(n_read) + " of " + std::to_string(decoder.n_frames) + " declared samples"};
  }
  if (resampler && wanted) resampler->finish(audio.wave);
  if (max_samples != 0 && audio.wave.size() > max_samples) audio.wave.resize(max_samples);
  // Floats near the largest one: the filter of the rate overflows, and a batch would fail for one file of it.
  if (resampler && first_not_finite(audio.wave.data(), audio.wave.size(), 1)) {
    throw Error(AASIST_AUDIO, name + " holds samples that are too large to change their rate.");
  }
  if (audio.wave.empty()) {
    throw Error(AASIST_AUDIO, name + " holds no samples at " + std::to_string(rate_hz) + " Hz (" +
                                  std::to_string(n_read) + " before resampling).");
  }
  audio.source_rate_hz = static_cast<int32_t>(source_hz);
  audio.source_channels = channels;
  const auto n_frames = exhausted || decoder.n_frames == 0 ? n_read : decoder.n_frames;
  audio.seconds = static_cast<double>(n_frames) / static_cast<double>(source_hz);
  return audio;
}

// libsndfile first; a FLAC file that it refuses goes to the second decoder, as in Python.
Audio decode_input(Input& input, const std::string& name, int64_t rate_hz, size_t max_samples) {
  std::string reason;
  try {
    return decode(*open_sndfile(input), name, rate_hz, max_samples);
  } catch (const Refused& refused) {
    reason = refused.reason;
  }
  if (!input.starts_with("fLaC")) throw undecodable(name, reason);
  try {
    const auto second = open_flac(input);
    if (second == nullptr) {
      throw undecodable(name, reason,
                        "some FLAC files are good, and libsndfile alone refuses them: ffmpeg -i FILE FILE.wav, or build "
                        "libaasist with miniaudio.h, its second decoder of FLAC");
    }
    Audio audio = decode(*second, name, rate_hz, max_samples);
    audio.second_decoder = true;
    return audio;
  } catch (const Refused& refused) {
    throw undecodable(name, "libsndfile: " + reason + "; miniaudio: " + refused.reason);
  }
}

}  // namespace

Resampler::Resampler(int32_t from_hz, int32_t to_hz) : ratio_(static_cast<double>(to_hz) / from_hz) {
  soxr_error_t error = nullptr;
  const soxr_io_spec_t io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
  const soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);  // 20 bits, as RESAMPLER_QUALITY in Python
  const soxr_runtime_spec_t runtime = soxr_runtime_spec(1);
  soxr_ = soxr_create(from_hz, to_hz, 1, &error, &io, &quality, &runtime);
  if (error != nullptr || soxr_ == nullptr) {
    throw Error(AASIST_ENVIRONMENT, std::string("soxr cannot change the rate: ") + (error ? error : "no reason given"));
  }
}

Resampler::~Resampler() { soxr_delete(soxr_); }

void Resampler::push(const float* samples, size_t n, std::vector<float>& out) {
  if (n > 0) run(samples, n, out);
}

void Resampler::finish(std::vector<float>& out) { run(nullptr, 0, out); }

void Resampler::run(const float* samples, size_t n, std::vector<float>& out) {
  room_.resize(static_cast<size_t>(static_cast<double>(n) * ratio_) + 4096);
  size_t done = 0;
  for (;;) {
    size_t taken = 0;
    size_t given = 0;
    const bool flush = samples == nullptr;
    const soxr_error_t error =
        soxr_process(soxr_, flush ? nullptr : samples + done, n - done, &taken, room_.data(), room_.size(), &given);
    if (error != nullptr) throw Error(AASIST_INTERNAL, std::string("soxr failed: ") + error);
    out.insert(out.end(), room_.begin(), room_.begin() + static_cast<std::ptrdiff_t>(given));
    done += taken;
    if (given < room_.size() && done == n) return;
  }
}

void append_mono(const float* frames, size_t n, int channels, std::vector<float>& out) {
  if (channels == 1) {
    out.insert(out.end(), frames, frames + n);
    return;
  }
  const auto width = static_cast<size_t>(channels);
  out.reserve(out.size() + n);
  for (size_t i = 0; i < n; ++i) {
    double sum = 0;
    for (size_t c = 0; c < width; ++c) sum += static_cast<double>(frames[i * width + c]);
    out.push_back(static_cast<float>(sum / channels));
  }
}

std::optional<size_t> first_not_finite(const float* frames, size_t n, int channels) {
  const size_t n_values = n * static_cast<size_t>(channels);
  for (size_t i = 0; i < n_values; ++i) {
    if (!std::isfinite(frames[i])) return i / static_cast<size_t>(channels);
  }
  return std::nullopt;
}

void check_rate(int64_t rate_hz) {
  if (rate_hz < kMinRateHz || rate_hz > kMaxRateHz) {
    throw Error(AASIST_USAGE, "The sample rate is " + std::to_string(rate_hz) + " Hz; it must be in 1000..1536000.");
  }
}

Audio read_audio(const std::string& path, int64_t rate_hz, size_t max_samples) {
  check_rate(rate_hz);
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) throw Error(AASIST_AUDIO, path + " does not exist.");
    throw Error(AASIST_AUDIO, path + " cannot be read (" + std::strerror(errno) + ").");
  }
  if (S_ISDIR(status.st_mode)) throw Error(AASIST_AUDIO, path + " is a folder, not an audio file.");
  if (!S_ISREG(status.st_mode)) {  // reading a pipe or device could block for ever
    throw Error(AASIST_AUDIO, path + " is not a regular file.", "write it to a file first");
  }
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  uint8_t head[12];
  const ssize_t n_head = file.get() < 0 ? -1 : pread(file.get(), head, sizeof head, 0);
  if (n_head < 0) throw Error(AASIST_AUDIO, path + " cannot be read (" + std::strerror(errno) + ").");
  if (n_head == 0) throw Error(AASIST_AUDIO, path + " is empty (0 bytes).");
  refuse_mpeg(head, static_cast<size_t>(n_head), path);
  Input input(file.get(), static_cast<int64_t>(status.st_size));
  return decode_input(input, path, rate_hz, max_samples);
}

Audio read_audio_bytes(const uint8_t* bytes, size_t n_bytes, const std::string& name, int64_t rate_hz,
                       size_t max_samples) {
  check_rate(rate_hz);
  if (n_bytes == 0) throw Error(AASIST_AUDIO, name + " is empty (0 bytes).");
  refuse_mpeg(bytes, n_bytes, name);
  Input input(bytes, n_bytes);
  return decode_input(input, name, rate_hz, max_samples);
}

void fit_length(const float* wave, size_t n, float* out, size_t n_out) {
  for (size_t at = 0; at < n_out;) {
    const size_t part = std::min(n, n_out - at);
    std::copy_n(wave, part, out + at);
    at += part;
  }
}

}  // namespace aasist

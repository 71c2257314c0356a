#include "audio.h"

#include <fcntl.h>
#include <sndfile.h>
#include <soxr.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <utility>

#include "error.h"

namespace aasist {
namespace {

constexpr size_t kBlockFrames = 65536;  // 4 s at 16 kHz; fewer when a file has many channels
constexpr size_t kMinBlockFrames = 4096;
constexpr int64_t kMaxSeconds = 86400;  // a day; a few bytes of compressed silence can claim far more
constexpr sf_count_t kFramesUnknown = sf_count_t{1} << 62;  // libsndfile: 2^63 - 1 when the header does not tell
constexpr const char* kDecodeFix = "check that it is a whole audio file; other formats: ffmpeg -i FILE -ac 1 FILE.wav";

class Sound {
 public:
  explicit Sound(SNDFILE* file) : file_(file) {}
  ~Sound() {
    if (file_ != nullptr) sf_close(file_);
  }
  Sound(const Sound&) = delete;
  Sound& operator=(const Sound&) = delete;
  SNDFILE* get() const { return file_; }

 private:
  SNDFILE* file_;
};

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

Error undecodable(const std::string& name, std::string reason) {
  constexpr const char* kPrefix = "Error : ";
  if (reason.rfind(kPrefix, 0) == 0) reason.erase(0, std::strlen(kPrefix));
  while (!reason.empty() && std::strchr(" .:\n", reason.back()) != nullptr) reason.pop_back();
  return Error(AASIST_AUDIO, name + " cannot be decoded (" + reason + ").", kDecodeFix);
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

Audio decode(SNDFILE* file, const SF_INFO& info, const std::string& name, int64_t rate_hz, size_t max_samples) {
  if (info.samplerate < kMinRateHz || info.samplerate > kMaxRateHz) {
    throw Error(AASIST_AUDIO, name + " says its sample rate is " + std::to_string(info.samplerate) + " Hz.");
  }
  const int channels = info.channels;
  std::optional<Resampler> resampler;
  if (info.samplerate != rate_hz) resampler.emplace(info.samplerate, static_cast<int32_t>(rate_hz));
  const size_t n_block = std::max(kMinBlockFrames, kBlockFrames / static_cast<size_t>(channels));
  std::vector<float> block(n_block * static_cast<size_t>(channels));
  std::vector<float> mixed;
  Audio audio;
  int64_t n_read = 0;
  bool exhausted = true;
  for (;;) {
    const sf_count_t got = sf_readf_float(file, block.data(), static_cast<sf_count_t>(n_block));
    if (sf_error(file) != SF_ERR_NO_ERROR) throw undecodable(name, sf_strerror(file));
    if (got <= 0) break;
    const auto n = static_cast<size_t>(got);
    if (const auto bad = first_not_finite(block.data(), n, channels)) {
      throw Error(AASIST_AUDIO, name + " holds NaN or infinite samples, first at " +
                                    std::to_string(n_read + static_cast<int64_t>(*bad)) + ".");
    }
    n_read += got;
    if (n_read > kMaxSeconds * info.samplerate) {
      throw Error(AASIST_AUDIO, name + " lasts more than " + std::to_string(kMaxSeconds / 3600) + " hours.",
                  "split it first");
    }
    if (resampler) {
      mixed.clear();
      append_mono(block.data(), n, channels, mixed);
      resampler->push(mixed.data(), mixed.size(), audio.wave);
    } else {
      append_mono(block.data(), n, channels, audio.wave);
    }
    if (max_samples != 0 && audio.wave.size() >= max_samples) {
      exhausted = false;
      break;
    }
  }
  const bool declared = info.frames > 0 && info.frames < kFramesUnknown;
  if (exhausted && declared && n_read < info.frames) {
    throw undecodable(name, std::to_string(n_read) + " of " + std::to_string(info.frames) + " declared samples");
  }
  if (resampler && exhausted) resampler->finish(audio.wave);
  if (max_samples != 0 && audio.wave.size() > max_samples) audio.wave.resize(max_samples);
  if (audio.wave.empty()) {
    throw Error(AASIST_AUDIO, name + " holds no samples at " + std::to_string(rate_hz) + " Hz (" +
                                  std::to_string(n_read) + " before resampling).");
  }
  audio.source_rate_hz = info.samplerate;
  audio.source_channels = channels;
  const auto n_frames = exhausted || !declared ? n_read : info.frames;
  audio.seconds = static_cast<double>(n_frames) / info.samplerate;
  return audio;
}

// A file in memory, as libsndfile reads files.
struct Memory {
  const uint8_t* bytes;
  sf_count_t size;
  sf_count_t at;
};

sf_count_t memory_size(void* user) { return static_cast<Memory*>(user)->size; }
sf_count_t memory_tell(void* user) { return static_cast<Memory*>(user)->at; }
sf_count_t memory_write(const void*, sf_count_t, void*) { return 0; }

sf_count_t memory_seek(sf_count_t offset, int whence, void* user) {
  auto* memory = static_cast<Memory*>(user);
  const sf_count_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? memory->at : memory->size;
  // As a file: before the start is an error, behind the end is not.
  if (offset < -base || offset > kFramesUnknown) return -1;
  return memory->at = base + offset;
}

sf_count_t memory_read(void* target, sf_count_t n, void* user) {
  auto* memory = static_cast<Memory*>(user);
  n = std::clamp<sf_count_t>(memory->size - memory->at, 0, n);
  if (n > 0) std::memcpy(target, memory->bytes + memory->at, static_cast<size_t>(n));
  memory->at += n;
  return n;
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
  SF_INFO info{};
  const Sound sound(sf_open_fd(file.get(), SFM_READ, &info, SF_FALSE));
  if (sound.get() == nullptr) throw undecodable(path, sf_strerror(nullptr));
  return decode(sound.get(), info, path, rate_hz, max_samples);
}

Audio read_audio_bytes(const uint8_t* bytes, size_t n_bytes, const std::string& name, int64_t rate_hz,
                       size_t max_samples) {
  check_rate(rate_hz);
  if (n_bytes == 0) throw Error(AASIST_AUDIO, name + " is empty (0 bytes).");
  refuse_mpeg(bytes, n_bytes, name);
  Memory memory{bytes, static_cast<sf_count_t>(n_bytes), 0};
  SF_VIRTUAL_IO io{memory_size, memory_seek, memory_read, memory_write, memory_tell};
  SF_INFO info{};
  const Sound sound(sf_open_virtual(&io, SFM_READ, &info, &memory));
  if (sound.get() == nullptr) throw undecodable(name, sf_strerror(nullptr));
  return decode(sound.get(), info, name, rate_hz, max_samples);
}

void fit_length(const float* wave, size_t n, float* out, size_t n_out) {
  for (size_t at = 0; at < n_out;) {
    const size_t part = std::min(n, n_out - at);
    std::copy_n(wave, part, out + at);
    at += part;
  }
}

}  // namespace aasist

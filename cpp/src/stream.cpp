#include "stream.h"

#include <algorithm>
#include <cstring>

#include "error.h"

namespace aasist {
namespace {

constexpr size_t kBlockFrames = 16384;  // one second at 16 kHz: a long push is taken in pieces
constexpr int kMaxStreamChannels = 64;

int32_t signed_at(const uint8_t* bytes, size_t width) {
  uint32_t value = 0;
  for (size_t i = 0; i < width; ++i) value |= uint32_t{bytes[i]} << (8 * (4 - width + i));
  int32_t out = 0;
  std::memcpy(&out, &value, sizeof out);
  return out;
}

}  // namespace

size_t pcm_bytes(int32_t format) {
  switch (format) {
    case AASIST_PCM_U8:
      return 1;
    case AASIST_PCM_S16LE:
      return 2;
    case AASIST_PCM_S24LE:
      return 3;
    case AASIST_PCM_S32LE:
    case AASIST_PCM_F32LE:
      return 4;
  }
  return 0;
}

void pcm_to_float(int32_t format, const uint8_t* bytes, size_t n_values, float* out) {
  const size_t width = pcm_bytes(format);
  for (size_t i = 0; i < n_values; ++i, bytes += width) {
    if (format == AASIST_PCM_U8) {
      out[i] = (static_cast<float>(*bytes) - 128.0F) / 128.0F;
    } else if (format == AASIST_PCM_F32LE) {
      const int32_t bits = signed_at(bytes, 4);
      std::memcpy(&out[i], &bits, sizeof bits);
    } else {  // the sample's bits are the highest of 32
      out[i] = static_cast<float>(static_cast<double>(signed_at(bytes, width)) / 2147483648.0);
    }
  }
}

Stream::Stream(const Engine& engine, int32_t format, int64_t rate_hz, int channels, uint64_t hop_samples)
    : format_(format),
      channels_(static_cast<size_t>(std::max(channels, 1))),
      frame_bytes_(pcm_bytes(format) * channels_) {
  check_rate(rate_hz);
  if (frame_bytes_ == 0) throw Error(AASIST_USAGE, "The type of samples is " + std::to_string(format) + "; known are 0 to 4.");
  if (channels < 1 || channels > kMaxStreamChannels) {
    throw Error(AASIST_USAGE, "The stream has " + std::to_string(channels) + " channels; 1 to 64 can be taken.");
  }
  windows_ = windows_of(engine, hop_samples);
  const auto model_hz = engine.contract().sample_rate_hz;
  if (rate_hz != model_hz) resampler_.emplace(static_cast<int32_t>(rate_hz), model_hz);
}

void Stream::check_open() const {
  if (ended_) throw Error(AASIST_USAGE, "The stream has ended.", "open another one");
}

void Stream::push(const uint8_t* bytes, size_t n_bytes) {
  check_open();
  ended_ = true;  // unless all goes well: after a failure, what was taken is not known
  split(bytes, n_bytes);
  ended_ = false;
}

void Stream::split(const uint8_t* bytes, size_t n_bytes) {
  if (!rest_.empty()) {
    const size_t more = std::min(frame_bytes_ - rest_.size(), n_bytes);
    rest_.insert(rest_.end(), bytes, bytes + more);
    bytes += more;
    n_bytes -= more;
    if (rest_.size() < frame_bytes_) return;
    const std::vector<uint8_t> frame = std::move(rest_);
    rest_.clear();
    take(frame.data(), 1);
  }
  size_t n_frames = n_bytes / frame_bytes_;
  while (n_frames > 0) {
    const size_t part = std::min(n_frames, kBlockFrames);
    take(bytes, part);
    bytes += part * frame_bytes_;
    n_frames -= part;
  }
  rest_.assign(bytes, bytes + n_bytes % frame_bytes_);
}

void Stream::take(const uint8_t* bytes, size_t n_frames) {
  values_.resize(n_frames * channels_);
  pcm_to_float(format_, bytes, values_.size(), values_.data());
  if (const auto bad = first_not_finite(values_.data(), n_frames, static_cast<int>(channels_))) {
    throw Error(AASIST_AUDIO, "The stream holds NaN or infinite samples, first at " + std::to_string(n_frames_ + *bad) + ".");
  }
  n_frames_ += n_frames;
  mixed_.clear();
  append_mono(values_.data(), n_frames, static_cast<int>(channels_), mixed_);
  if (resampler_) {
    resampled_.clear();
    resampler_->push(mixed_.data(), mixed_.size(), resampled_);
    score_resampled();
  } else {
    windows_->push(mixed_.data(), mixed_.size());
  }
}

void Stream::score_resampled() {
  if (first_not_finite(resampled_.data(), resampled_.size(), 1)) {  // floats near the largest one
    throw Error(AASIST_AUDIO, "The stream holds samples that are too large to change their rate, before " +
                                  std::to_string(n_frames_) + ".");
  }
  windows_->push(resampled_.data(), resampled_.size());
}

void Stream::finish() {
  check_open();
  ended_ = true;
  if (resampler_) {
    resampled_.clear();
    resampler_->finish(resampled_);
    score_resampled();
  }
  if (windows_->finish() == 0) {
    throw Error(AASIST_AUDIO, "The stream held no samples (" + std::to_string(n_frames_) + " before resampling).");
  }
}

}  // namespace aasist

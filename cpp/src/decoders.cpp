#include "decoders.h"

#include <sndfile.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace aasist {
namespace {

constexpr int64_t kFramesUnknown = int64_t{1} << 62;  // libsndfile: 2^63 - 1 when the header does not tell

constexpr size_t kMaxRead = size_t{1} << 30;

Refused refused(std::string reason) {
  constexpr const char* kPrefix = "Error : ";
  if (reason.rfind(kPrefix, 0) == 0) reason.erase(0, std::strlen(kPrefix));
  while (!reason.empty() && std::strchr(" .:\n", reason.back()) != nullptr) reason.pop_back();
  return Refused{reason};
}

sf_count_t input_size(void* user) { return static_cast<Input*>(user)->size(); }
sf_count_t input_tell(void* user) { return static_cast<Input*>(user)->tell(); }
sf_count_t input_write(const void*, sf_count_t, void*) { return 0; }

sf_count_t input_seek(sf_count_t offset, int whence, void* user) {
  auto* input = static_cast<Input*>(user);
  return input->seek(offset, whence) ? input->tell() : -1;
}

sf_count_t input_read(void* target, sf_count_t n, void* user) {
  return n <= 0 ? 0 : static_cast<sf_count_t>(static_cast<Input*>(user)->read(target, static_cast<size_t>(n)));
}

class SndfileDecoder final : public Decoder {
 public:
  explicit SndfileDecoder(Input& input) : io_{input_size, input_seek, input_read, input_write, input_tell} {
    SF_INFO info{};
    file_ = input.descriptor() >= 0 ? sf_open_fd(input.descriptor(), SFM_READ, &info, SF_FALSE)
                                    : sf_open_virtual(&io_, SFM_READ, &info, &input);
    if (file_ == nullptr) throw refused(sf_strerror(nullptr));
    rate_hz = info.samplerate;
    channels = info.channels;
    n_frames = info.frames > 0 && info.frames < kFramesUnknown ? info.frames : 0;
  }
  ~SndfileDecoder() override { sf_close(file_); }
  SndfileDecoder(const SndfileDecoder&) = delete;
  SndfileDecoder& operator=(const SndfileDecoder&) = delete;

  size_t read(float* frames, size_t n) override {
    const sf_count_t got = sf_readf_float(file_, frames, static_cast<sf_count_t>(n));
    if (sf_error(file_) != SF_ERR_NO_ERROR) throw refused(sf_strerror(file_));
    return got > 0 ? static_cast<size_t>(got) : 0;
  }

 private:
  SF_VIRTUAL_IO io_;
  SNDFILE* file_ = nullptr;
};

}  // namespace

bool Input::seek(int64_t offset, int whence) {
  const int64_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? at_ : size_;
  if (offset < -base || offset > kFramesUnknown) return false;
  at_ = base + offset;
  return true;
}

size_t Input::read(void* target, size_t n) {
  n = read_at(at_, target, n);
  at_ += static_cast<int64_t>(n);
  return n;
}

bool Input::starts_with(const char* magic) const {
  char head[16];
  const size_t n = std::min(std::strlen(magic), sizeof head);
  return read_at(0, head, n) == n && std::memcmp(head, magic, n) == 0;
}

size_t Input::read_at(int64_t at, void* target, size_t n) const {
  n = static_cast<size_t>(std::clamp<int64_t>(size_ - at, 0, static_cast<int64_t>(std::min(n, kMaxRead))));
  if (n == 0) return 0;
  if (bytes_ != nullptr) {
    std::memcpy(target, bytes_ + at, n);
    return n;
  }
  const ssize_t got = pread(descriptor_, target, n, at);
  return got > 0 ? static_cast<size_t>(got) : 0;
}

std::unique_ptr<Decoder> open_sndfile(Input& input) { return std::make_unique<SndfileDecoder>(input); }

}  // namespace aasist

// The two decoders: each gives a file's frames block by block, or refuses the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace aasist {

// A decoder cannot read the file; another one may.
struct Refused {
  std::string reason;
};

// The bytes of a file, or of a descriptor that its owner closes.
class Input {
 public:
  Input(const uint8_t* bytes, size_t size) : bytes_(bytes), size_(static_cast<int64_t>(size)) {}
  Input(int descriptor, int64_t size) : descriptor_(descriptor), size_(size) {}

  int descriptor() const { return descriptor_; }  // -1: in memory
  int64_t size() const { return size_; }
  int64_t tell() const { return at_; }
  // As of a file: before the start is refused, behind the end is not.
  bool seek(int64_t offset, int whence);
  size_t read(void* target, size_t n);
  bool starts_with(const char* magic) const;

 private:
  size_t read_at(int64_t at, void* target, size_t n) const;

  const uint8_t* bytes_ = nullptr;
  int descriptor_ = -1;
  int64_t size_;
  int64_t at_ = 0;
};

class Decoder {
 public:
  virtual ~Decoder() = default;

  // Up to `n` more frames, interleaved in [-1, 1]; 0 at the end. Throws Refused.
  virtual size_t read(float* frames, size_t n) = 0;

  int64_t rate_hz = 0;
  int channels = 0;
  int64_t n_frames = 0;     // as the header declares; 0 where it does not tell
  bool whole_only = false;  // damage shows in the number of frames alone: read to the end, whatever is wanted
};

// libsndfile: WAV, FLAC, Ogg, AIFF and others. Throws Refused. The input must live longer.
std::unique_ptr<Decoder> open_sndfile(Input& input);

// For FLAC files that libsndfile refuses and others do not: miniaudio's decoder. Null where the library was built
// without it. Throws Refused, also where the header does not tell the number of frames.
std::unique_ptr<Decoder> open_flac(Input& input);

}  // namespace aasist

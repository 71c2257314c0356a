// Real files exist that libFLAC, and so libsndfile, gives up on ("lost sync") and every other decoder reads: 13 of 30
// clips of ASVspoof 2021 LA. miniaudio is one header; what of it is not FLAC stays out.
#include "decoders.h"

#if AASIST_MINIAUDIO

#define MA_API [[maybe_unused]] static
#define MINIAUDIO_IMPLEMENTATION
#define MA_NO_DEVICE_IO
#define MA_NO_THREADING
#define MA_NO_ENCODING
#define MA_NO_GENERATION
#define MA_NO_RESOURCE_MANAGER
#define MA_NO_NODE_GRAPH
#define MA_NO_ENGINE
#define MA_NO_WAV
#define MA_NO_MP3
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#endif
#include <miniaudio.h>
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

#if MA_VERSION_MAJOR != 0 || MA_VERSION_MINOR != 11
#error "miniaudio 0.11 is needed; leave it out with -DAASIST_MINIAUDIO=OFF"
#endif

namespace aasist {
namespace {

size_t input_read(void* user, void* target, size_t n) { return static_cast<Input*>(user)->read(target, n); }

ma_bool32 input_seek(void* user, int offset, ma_dr_flac_seek_origin origin) {
  auto* input = static_cast<Input*>(user);
  return input->seek(offset, origin == ma_dr_flac_seek_origin_start ? SEEK_SET : SEEK_CUR) ? MA_TRUE : MA_FALSE;
}

class FlacDecoder final : public Decoder {
 public:
  explicit FlacDecoder(Input& input) {
    input.seek(0, SEEK_SET);
    file_ = ma_dr_flac_open(input_read, input_seek, &input, nullptr);
    if (file_ == nullptr) throw Refused{"it has no FLAC header that can be read"};
    rate_hz = file_->sampleRate;
    channels = file_->channels;
    whole_only = true;  // it passes over frames whose checksum is wrong, and then gives fewer
    const ma_uint64 declared = file_->totalPCMFrameCount;
    n_frames = static_cast<int64_t>(declared & INT64_MAX);
    if (declared == 0 || declared > INT64_MAX) {
      ma_dr_flac_close(file_);
      throw Refused{"its header does not tell how many samples there are"};
    }
  }
  ~FlacDecoder() override { ma_dr_flac_close(file_); }
  FlacDecoder(const FlacDecoder&) = delete;
  FlacDecoder& operator=(const FlacDecoder&) = delete;

  size_t read(float* frames, size_t n) override {
    return static_cast<size_t>(ma_dr_flac_read_pcm_frames_f32(file_, n, frames));
  }

 private:
  ma_dr_flac* file_ = nullptr;
};

}  // namespace

std::unique_ptr<Decoder> open_flac(Input& input) { return std::make_unique<FlacDecoder>(input); }

}  // namespace aasist

#else

namespace aasist {

std::unique_ptr<Decoder> open_flac(Input&) { return nullptr; }

}  // namespace aasist

#endif

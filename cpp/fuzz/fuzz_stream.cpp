// Raw PCM of any type, in chunks of any size: the windows do not depend on the chunks. The first bytes say
// type, rate, channels, hop and chunk, and whether the model is a file for streams.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "aasist/aasist.h"
#include "helpers_model.h"

namespace {

struct Outcome {
  aasist_status status;
  std::vector<aasist_window_score> windows;
};

Outcome run(const uint8_t* head, const uint8_t* data, size_t size, size_t chunk) {
  static const int32_t rates[] = {16000, 8000, 48000, 44100};
  aasist_stream* stream = nullptr;
  const bool shared_frames = head[0] >= 128;
  const auto status =
      aasist_stream_open(shared_frames ? fuzz_stream_model() : fuzz_model(), head[0] % 5, rates[head[1] % 4],
                         head[2] % 4 + 1, shared_frames ? uint64_t{head[3]} * 100 + 100 : uint64_t{head[3]} * 16 + 1, &stream);
  if (status != AASIST_OK) std::abort();
  Outcome outcome{AASIST_OK, {}};
  for (size_t at = 0; at < size && outcome.status == AASIST_OK; at += chunk) {
    outcome.status = aasist_stream_push(stream, data + at, size - at < chunk ? size - at : chunk);
  }
  if (outcome.status == AASIST_OK) outcome.status = aasist_stream_finish(stream);
  // AASIST_MODEL_FILE: floats so large that the model's score is infinite.
  if (outcome.status != AASIST_OK && outcome.status != AASIST_AUDIO && outcome.status != AASIST_MODEL_FILE) std::abort();
  aasist_window_score window{};
  while (aasist_stream_next(stream, &window) == 1) outcome.windows.push_back(window);
  aasist_stream_close(stream);
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 5 || size > 20000) return 0;
  const auto whole = run(data, data + 5, size - 5, size);
  const auto parts = run(data, data + 5, size - 5, data[4] % 97 + size_t{1});
  if (whole.status != parts.status) std::abort();
  if (whole.status == AASIST_OK && whole.windows.size() != parts.windows.size()) std::abort();
  for (size_t i = 0; i < whole.windows.size() && i < parts.windows.size(); ++i) {
    const auto& a = whole.windows[i];
    const auto& b = parts.windows[i];
    if (a.index != b.index || a.start != b.start || a.end != b.end) std::abort();
    if (std::memcmp(&a.score, &b.score, sizeof a.score) != 0) std::abort();
  }
  return 0;
}

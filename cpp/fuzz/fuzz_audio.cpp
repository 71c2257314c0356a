// An audio file of any bytes: samples that are numbers, or an error of the file.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "audio.h"
#include "error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kMaxSamples = 20000;
  try {
    const auto audio = aasist::read_audio_bytes(data, size, "fuzz.wav", 16000, kMaxSamples);
    if (audio.wave.empty() || audio.wave.size() > kMaxSamples || !(audio.seconds >= 0)) std::abort();
  } catch (const aasist::Error& error) {
    if (error.status() != AASIST_AUDIO) std::abort();
  }
  return 0;
}

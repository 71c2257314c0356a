// Windows of a stream are those of the whole signal, however the bytes arrive.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "helpers.h"
#include "stream.h"

namespace {

Bytes s16(size_t n) {
  Bytes bytes;
  for (size_t i = 0; i < n; ++i) {
    const auto value = static_cast<int16_t>((i * i) % 30011);
    bytes.push_back(static_cast<uint8_t>(value & 0xFF));
    bytes.push_back(static_cast<uint8_t>(value >> 8));
  }
  return bytes;
}

Stream open_stream(const Model& model, uint64_t hop, int32_t format = AASIST_PCM_S16LE, int32_t rate_hz = 16000,
                   int32_t channels = 1) {
  aasist_stream* stream = nullptr;
  const auto status = aasist_stream_open(model.get(), format, rate_hz, channels, hop, &stream);
  REQUIRE_MESSAGE(status == AASIST_OK, std::string(aasist_message()));
  return Stream(stream, aasist_stream_close);
}

std::vector<aasist_window_score> windows_of(aasist_stream* stream, const Bytes& bytes, size_t chunk) {
  std::vector<aasist_window_score> windows;
  aasist_window_score window{};
  for (size_t at = 0; at < bytes.size(); at += chunk) {
    REQUIRE(aasist_stream_push(stream, bytes.data() + at, std::min(chunk, bytes.size() - at)) == AASIST_OK);
    while (aasist_stream_next(stream, &window) == 1) windows.push_back(window);
  }
  REQUIRE(aasist_stream_finish(stream) == AASIST_OK);
  while (aasist_stream_next(stream, &window) == 1) windows.push_back(window);
  return windows;
}

std::vector<float> floats(const Bytes& bytes) {
  std::vector<float> out(bytes.size() / 2);
  aasist::pcm_to_float(AASIST_PCM_S16LE, bytes.data(), out.size(), out.data());
  return out;
}

}  // namespace

TEST_SUITE("stream") {
  TEST_CASE("each window has the score it has alone, for every hop and chunk") {
    const Model model = open_model(tiny());
    const Bytes bytes = s16(5000);
    const auto samples = floats(bytes);
    for (const uint64_t hop : {1U, 100U, 799U, 800U, 801U, 1900U, 6000U}) {
      for (const size_t chunk : {1U, 3U, 1601U, 100000U}) {
        if (hop == 1 && chunk < 1000) continue;  // 4,201 windows; once is enough
        CAPTURE(hop);
        CAPTURE(chunk);
        const auto stream = open_stream(model, hop);
        const auto windows = windows_of(stream.get(), bytes, chunk);
        REQUIRE(windows.size() == (5000 - 800) / hop + 1);
        for (size_t i = 0; i < windows.size(); ++i) {
          CHECK(windows[i].index == i);
          CHECK(windows[i].start == i * hop);
          CHECK(windows[i].end == i * hop + 800);
          float alone = 0;
          REQUIRE(aasist_score(model.get(), samples.data() + windows[i].start, 1, 800, &alone) == AASIST_OK);
          CHECK(windows[i].score == alone);
        }
      }
    }
  }

  TEST_CASE("a stream shorter than a window is tiled, as files are") {
    const Model model = open_model(tiny());
    const Bytes bytes = s16(300);
    const auto stream = open_stream(model, 400);
    const auto windows = windows_of(stream.get(), bytes, 64);
    REQUIRE(windows.size() == 1);
    CHECK(windows[0].start == 0);
    CHECK(windows[0].end == 300);
    const TempFile file("same.wav", [&] {
      std::vector<int16_t> values(300);
      std::memcpy(values.data(), bytes.data(), bytes.size());
      return wav(values);
    }());
    aasist_file_score alone{};
    REQUIRE(aasist_score_file(model.get(), file.path(), &alone) == AASIST_OK);
    CHECK(windows[0].score == alone.score);
  }

  TEST_CASE("another rate and more channels give the windows of the converted signal") {
    const Model model = open_model(tiny());
    const auto stream = open_stream(model, 800, AASIST_PCM_S16LE, 48000, 2);
    const auto windows = windows_of(stream.get(), s16(2 * 12000), 1000);  // a quarter of a second
    CHECK(windows.size() == 5);
  }

  TEST_CASE("every type of samples is scaled as files are") {
    float out[2] = {};
    const Bytes u8 = {0, 255};
    aasist::pcm_to_float(AASIST_PCM_U8, u8.data(), 2, out);
    CHECK(out[0] == -1.0F);
    CHECK(out[1] == 127.0F / 128);
    const Bytes s24 = {0, 0, 0x80, 0xFF, 0xFF, 0x7F};
    aasist::pcm_to_float(AASIST_PCM_S24LE, s24.data(), 2, out);
    CHECK(out[0] == -1.0F);
    CHECK(out[1] == 8388607.0F / 8388608);
    const Bytes s32 = {0, 0, 0, 0x80, 0, 0, 0, 0x40};
    aasist::pcm_to_float(AASIST_PCM_S32LE, s32.data(), 2, out);
    CHECK(out[0] == -1.0F);
    CHECK(out[1] == 0.5F);
    const Bytes f32 = {0, 0, 0, 0x3F, 0, 0, 0x80, 0xBE};
    aasist::pcm_to_float(AASIST_PCM_F32LE, f32.data(), 2, out);
    CHECK(out[0] == 0.5F);
    CHECK(out[1] == -0.25F);
  }

  TEST_CASE("what cannot be is refused when the stream is opened") {
    const Model model = open_model(tiny());
    const Model variable = open_model(tiny_variable());
    aasist_stream* stream = nullptr;
    CHECK(aasist_stream_open(model.get(), 5, 16000, 1, 800, &stream) == AASIST_USAGE);
    CHECK(aasist_stream_open(model.get(), -1, 16000, 1, 800, &stream) == AASIST_USAGE);
    CHECK(aasist_stream_open(model.get(), AASIST_PCM_U8, 10, 1, 800, &stream) == AASIST_USAGE);
    CHECK(aasist_stream_open(model.get(), AASIST_PCM_U8, 16000, 0, 800, &stream) == AASIST_USAGE);
    CHECK(aasist_stream_open(model.get(), AASIST_PCM_U8, 16000, 65, 800, &stream) == AASIST_USAGE);
    CHECK(aasist_stream_open(model.get(), AASIST_PCM_U8, 16000, 1, 0, &stream) == AASIST_USAGE);
    CHECK(aasist_stream_open(variable.get(), AASIST_PCM_U8, 16000, 1, 800, &stream) == AASIST_USAGE);
    CHECK_MESSAGE_SAYS("variable length");
    CHECK(stream == nullptr);
  }

  TEST_CASE("a stream without samples, and one that has ended, say so") {
    const Model model = open_model(tiny());
    const auto stream = open_stream(model, 800);
    CHECK(aasist_stream_push(stream.get(), "x", 1) == AASIST_OK);  // half a sample
    CHECK(aasist_stream_finish(stream.get()) == AASIST_AUDIO);
    CHECK_MESSAGE_SAYS("held no samples");
    CHECK(aasist_stream_push(stream.get(), "xy", 2) == AASIST_USAGE);
    CHECK(aasist_stream_finish(stream.get()) == AASIST_USAGE);
    aasist_window_score window{};
    CHECK(aasist_stream_next(stream.get(), &window) == 0);
  }

  TEST_CASE("samples that are no numbers end the stream, and keep what was scored") {
    const Model model = open_model(tiny());
    const auto stream = open_stream(model, 800, AASIST_PCM_F32LE);
    std::vector<float> samples(900, 0.25F);
    REQUIRE(aasist_stream_push(stream.get(), samples.data(), samples.size() * 4) == AASIST_OK);
    samples[5] = std::nanf("");
    CHECK(aasist_stream_push(stream.get(), samples.data(), samples.size() * 4) == AASIST_AUDIO);
    CHECK_MESSAGE_SAYS("first at 905");
    aasist_window_score window{};
    CHECK(aasist_stream_next(stream.get(), &window) == 1);
    CHECK(window.score == doctest::Approx(2.0));
  }
}

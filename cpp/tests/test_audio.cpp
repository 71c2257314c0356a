// Decoding, the mean over channels, and the rate.
#include <algorithm>
#include <cmath>
#include <limits>

#include "audio.h"
#include "decoders.h"
#include "error.h"
#include "helpers.h"

namespace {

struct Read {
  aasist_status status;
  std::vector<float> wave;
};

Read read(const Bytes& content, int32_t rate_hz = 16000, size_t max_samples = 0, const char* name = "clip.wav") {
  const TempFile file(name, content);
  float* wave = nullptr;
  size_t n = 0;
  Read out{aasist_read_audio(file.path(), rate_hz, max_samples, &wave, &n), {}};
  if (out.status == AASIST_OK) out.wave.assign(wave, wave + n);
  CHECK((wave == nullptr) == (out.status != AASIST_OK));
  aasist_free(wave);
  return out;
}

std::vector<int16_t> tone(size_t n, int16_t step = 37) {
  std::vector<int16_t> samples(n);
  for (size_t i = 0; i < n; ++i) samples[i] = static_cast<int16_t>((i * static_cast<size_t>(step)) % 20001);
  for (auto& sample : samples) sample = static_cast<int16_t>(sample - 10000);
  return samples;
}

}  // namespace

TEST_SUITE("audio") {
  TEST_CASE("16-bit samples are x / 32768 exactly") {
    const Read got = read(wav({-32768, -1, 0, 1, 32767}));
    CHECK(got.wave == std::vector<float>{-1.0F, -1.0F / 32768, 0.0F, 1.0F / 32768, 32767.0F / 32768});
  }

  TEST_CASE("channels are averaged, and equal ones stay exact") {
    CHECK(read(wav({100, 300, -7, -7}, 16000, 2)).wave == std::vector<float>{200.0F / 32768, -7.0F / 32768});
    CHECK(read(wav({3, 3, 3}, 16000, 3)).wave == std::vector<float>{3.0F / 32768});
  }

  TEST_CASE("a start that is read is the start of all, at the file's rate and at another") {
    const Bytes clip = wav(tone(200000), 44100);
    for (const int32_t rate_hz : {44100, 16000}) {
      const auto whole = read(clip, rate_hz).wave;
      const auto start = read(clip, rate_hz, 5000).wave;
      REQUIRE(start.size() == 5000);
      CHECK(std::equal(start.begin(), start.end(), whole.begin()));
    }
    CHECK(read(clip).wave.size() == 72562);  // 200000 * 16000 / 44100, rounded
  }

  TEST_CASE("the resampler gives the same bits for every block size") {
    const auto samples = tone(9000);
    std::vector<float> input(samples.begin(), samples.end());
    std::vector<float> whole;
    aasist::Resampler once(8000, 16000);
    once.push(input.data(), input.size(), whole);
    once.finish(whole);
    CHECK(whole.size() == 18000);
    for (const size_t block : {1U, 7U, 1000U}) {
      std::vector<float> pieces;
      aasist::Resampler again(8000, 16000);
      for (size_t at = 0; at < input.size(); at += block) {
        again.push(input.data() + at, std::min(block, input.size() - at), pieces);
      }
      again.finish(pieces);
      CHECK(pieces == whole);
    }
  }

  TEST_CASE("what is no audio is refused by name") {
    CHECK(read({}).status == AASIST_AUDIO);
    CHECK_MESSAGE_SAYS("is empty (0 bytes)");
    CHECK(read(Bytes(5000, 0x41)).status == AASIST_AUDIO);
    CHECK_MESSAGE_SAYS("cannot be decoded");
    CHECK(read({'I', 'D', '3', 4, 0, 0, 0}).status == AASIST_AUDIO);
    CHECK_MESSAGE_SAYS("is MPEG audio");
    CHECK(read(wav({})).status == AASIST_AUDIO);
    CHECK_MESSAGE_SAYS("holds no samples at 16000 Hz");
    CHECK(read(wav({1, 2}, 999)).status == AASIST_AUDIO);
    CHECK_MESSAGE_SAYS("says its sample rate is 999 Hz");
    float* wave = nullptr;
    size_t n = 0;
    CHECK(aasist_read_audio("/nonexistent.wav", 16000, 0, &wave, &n) == AASIST_AUDIO);
    CHECK_MESSAGE_SAYS("/nonexistent.wav does not exist");
    CHECK(aasist_read_audio("/tmp", 16000, 0, &wave, &n) == AASIST_AUDIO);
    CHECK_MESSAGE_SAYS("is a folder");
    CHECK(aasist_read_audio("/dev/zero", 16000, 0, &wave, &n) == AASIST_AUDIO);
    CHECK_MESSAGE_SAYS("is not a regular file");
  }

  TEST_CASE("samples that are no numbers are refused with their place") {
    CHECK(read(wav_float({0.0F, 0.5F, std::nanf(""), 0.0F})).status == AASIST_AUDIO);
    CHECK_MESSAGE_SAYS("holds NaN or infinite samples, first at 2");
    CHECK(read(wav_float({std::numeric_limits<float>::infinity()})).status == AASIST_AUDIO);
  }

  TEST_CASE("samples that overflow while their rate is changed are the file's error, not that of its batch") {
    std::vector<float> large(2000);
    for (size_t i = 0; i < large.size(); ++i) large[i] = i % 2 == 0 ? 3.4e38F : -3.4e38F;
    for (size_t i = 0; i < 1000; ++i) large[i] = 3.4e38F;
    const TempFile overflows("large.wav", wav_float(large, 8000));
    const TempFile good("good.wav", wav(std::vector<int16_t>(800, 4096)));
    const Model model = open_model(tiny());
    const char* const paths[] = {overflows.path(), good.path()};
    std::vector<aasist_status> statuses;
    const auto hear = [](void* user, size_t, const aasist_file_score* result, const char*) {
      static_cast<std::vector<aasist_status>*>(user)->push_back(result->status);
      return 0;
    };
    REQUIRE(aasist_score_files(model.get(), paths, 2, hear, &statuses) == AASIST_OK);
    CHECK(statuses == std::vector<aasist_status>{AASIST_AUDIO, AASIST_OK});
    aasist_stream* stream = nullptr;
    REQUIRE(aasist_stream_open(model.get(), AASIST_PCM_F32LE, 8000, 1, 800, &stream) == AASIST_OK);
    aasist_status status = aasist_stream_push(stream, large.data(), large.size() * sizeof(float));
    if (status == AASIST_OK) status = aasist_stream_finish(stream);
    CHECK(status == AASIST_AUDIO);
    CHECK_MESSAGE_SAYS("too large to change their rate");
    aasist_stream_close(stream);
  }

  TEST_CASE("a rate that is none is the caller's error") {
    for (const int32_t rate_hz : {0, -16000, 999, 1536001}) CHECK(read(wav({1, 2}), rate_hz).status == AASIST_USAGE);
  }

  TEST_CASE("a file that is cut short at any byte gives samples or an error") {
    const Bytes whole = wav(tone(300));
    for (size_t n = 0; n < whole.size(); ++n) {
      const Bytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n));
      CAPTURE(n);
      try {
        const auto audio = aasist::read_audio_bytes(part.data(), part.size(), "part", 16000, 0);
        CHECK(!audio.wave.empty());
      } catch (const aasist::Error& error) {
        CHECK(error.status() == AASIST_AUDIO);
      }
    }
    CHECK(aasist::read_audio_bytes(whole.data(), whole.size(), "whole", 16000, 0).wave.size() == 300);
  }

  TEST_CASE("a FLAC file that libsndfile refuses goes to the second decoder, which must find every sample") {
    const Bytes good = read_bytes(data("tone.flac"));
    const auto expected = aasist::read_audio_bytes(good.data(), good.size(), "good", 16000, 0);
    CHECK(!expected.second_decoder);
    CHECK(expected.wave.size() == 9000);
    // Four bytes of nothing between the blocks, where the second one starts: libFLAC loses its sync for ever.
    const uint8_t sync[] = {0xFF, 0xF8};
    const auto first = std::search(good.begin() + 42, good.end(), std::begin(sync), std::end(sync));
    const auto second = std::search(first + 16, good.end(), std::begin(sync), std::end(sync));
    REQUIRE(second != good.end());
    const auto at = static_cast<size_t>(second - good.begin());
    Bytes odd = good;
    odd.insert(odd.begin() + static_cast<std::ptrdiff_t>(at), 4, 0);
    Bytes damaged = good;
    damaged[at + 100] ^= 0xFF;  // the checksum of the second block no longer fits
    const bool has_second = [&] {
      aasist::Input input(good.data(), good.size());
      return aasist::open_flac(input) != nullptr;
    }();
    const auto refusal = [](const Bytes& bytes, size_t max_samples) -> std::pair<std::string, std::string> {
      try {
        aasist::read_audio_bytes(bytes.data(), bytes.size(), "odd.flac", 16000, max_samples);
        return {};
      } catch (const aasist::Error& error) {
        CHECK(error.status() == AASIST_AUDIO);
        return {error.what(), error.fix()};
      }
    };
    if (!has_second) {
      CHECK(contains(refusal(odd, 0).first, "cannot be decoded (flac decoder lost sync)"));
      CHECK(contains(refusal(odd, 0).second, "build libaasist with miniaudio.h"));
      return;
    }
    for (const size_t max_samples : {0U, 4200U}) {  // in a file and from a start that reaches into the second block
      const auto audio = aasist::read_audio_bytes(odd.data(), odd.size(), "odd.flac", 16000, max_samples);
      CHECK(audio.second_decoder);
      CHECK(audio.seconds == 9000.0 / 16000);
      REQUIRE(audio.wave.size() == (max_samples == 0 ? 9000 : max_samples));
      CHECK(std::equal(audio.wave.begin(), audio.wave.end(), expected.wave.begin()));
      CHECK(contains(refusal(damaged, max_samples).first, "; miniaudio: "));
      CHECK(contains(refusal(damaged, max_samples).first, " of 9000 declared samples"));
    }
    const TempFile file("odd.flac", odd);
    CHECK(aasist::read_audio(file.path(), 16000, 0).wave == expected.wave);
  }
}

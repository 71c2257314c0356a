// From files to scores, and what becomes of those that cannot be scored.
#include <cmath>

#include "helpers.h"

namespace {

struct Heard {
  std::vector<aasist_file_score> results;
  std::vector<std::string> messages;
  size_t stop_after = SIZE_MAX;
};

int hear(void* user, size_t index, const aasist_file_score* result, const char* message) {
  auto& heard = *static_cast<Heard*>(user);
  CHECK(index == heard.results.size());
  heard.results.push_back(*result);
  heard.messages.emplace_back(message);
  return heard.results.size() >= heard.stop_after ? 1 : 0;
}

}  // namespace

TEST_SUITE("files") {
  TEST_CASE("a file says what was done to it") {
    const Model model = open_model(tiny());
    const TempFile short_clip("short.wav", wav(std::vector<int16_t>(300, 8192), 16000));
    const TempFile exact("exact.wav", wav(std::vector<int16_t>(800, 8192), 16000));
    const TempFile stereo("stereo.wav", wav(std::vector<int16_t>(4000, 8192), 16000, 2));
    aasist_file_score result{};
    REQUIRE(aasist_score_file(model.get(), short_clip.path(), &result) == AASIST_OK);
    CHECK(result.score == doctest::Approx(2.0));
    CHECK(result.tiled == 1);
    CHECK(result.cut == 0);
    CHECK(result.seconds == doctest::Approx(300.0 / 16000));
    CHECK(result.llr == doctest::Approx(3.0));
    CHECK(result.p_spoof == doctest::Approx(1 / (1 + std::exp(3.0))));
    REQUIRE(aasist_score_file(model.get(), exact.path(), &result) == AASIST_OK);
    CHECK(result.tiled == 0);
    CHECK(result.cut == 0);
    REQUIRE(aasist_score_file(model.get(), stereo.path(), &result) == AASIST_OK);
    CHECK(result.cut == 1);
    CHECK(result.source_channels == 2);
    CHECK(result.seconds == doctest::Approx(2000.0 / 16000));
  }

  TEST_CASE("a file that cannot be scored has its error, and the others their scores, in order") {
    for (const auto& bytes : {tiny(), tiny_variable()}) {
      aasist_options options{};
      aasist_options_init(&options, sizeof options);
      options.max_batch = 2;
      const Model model = open_model(bytes, &options);
      const TempFile first("a.wav", wav(std::vector<int16_t>(800, 4096)));
      const TempFile bad("b.wav", Bytes(100, 'x'));
      const TempFile last("c.wav", wav(std::vector<int16_t>(500, -4096)));
      const char* paths[] = {first.path(), bad.path(), nullptr, "/nonexistent.wav", last.path()};
      Heard heard;
      REQUIRE(aasist_score_files(model.get(), paths, 5, hear, &heard) == AASIST_OK);
      REQUIRE(heard.results.size() == 5);
      CHECK(heard.results[0].score == doctest::Approx(1.0));
      CHECK(heard.messages[0].empty());
      CHECK(heard.results[1].status == AASIST_AUDIO);
      CHECK(std::isnan(heard.results[1].score));
      CHECK(contains(heard.messages[1], "b.wav cannot be decoded"));
      CHECK(heard.results[2].status == AASIST_USAGE);
      CHECK(heard.results[3].status == AASIST_AUDIO);
      CHECK(heard.results[4].score == doctest::Approx(-1.0));
    }
  }

  TEST_CASE("the caller can end") {
    const Model model = open_model(tiny());
    const TempFile clip("a.wav", wav(std::vector<int16_t>(800, 4096)));
    const std::vector<const char*> paths(100, clip.path());
    Heard heard;
    heard.stop_after = 3;
    CHECK(aasist_score_files(model.get(), paths.data(), paths.size(), hear, &heard) == AASIST_OK);
    CHECK(heard.results.size() == 3);
  }

  TEST_CASE("of no files nothing is heard") {
    const Model model = open_model(tiny());
    Heard heard;
    CHECK(aasist_score_files(model.get(), nullptr, 0, hear, &heard) == AASIST_OK);
    CHECK(heard.results.empty());
  }
}

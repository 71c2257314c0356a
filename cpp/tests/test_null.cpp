// Null pointers and wrong sizes give a status and a message.
#include "helpers.h"

namespace {

int hear(void*, size_t, const aasist_file_score*, const char*) { return 0; }

}  // namespace

TEST_SUITE("null") {
  TEST_CASE("every pointer that must not be null is named") {
    const Model owner = open_model(tiny());
    aasist_model* const model = owner.get();
    aasist_model* opened = nullptr;
    aasist_stream* stream = nullptr;
    aasist_info info{};
    aasist_file_score file{};
    float sample = 0;
    float* wave = nullptr;
    size_t n = 0;
    double number = 0;
    const char* const no_paths[] = {nullptr};
    struct Row {
      aasist_status status;
      std::string message;
      const char* named;
    };
    std::vector<Row> rows;
    const auto add = [&rows](aasist_status status, const char* named) { rows.push_back({status, aasist_message(), named}); };
    add(aasist_options_init(nullptr, sizeof(aasist_options)), "options");
    add(aasist_open(nullptr, nullptr, &opened), "path");
    add(aasist_open("x", nullptr, nullptr), "model");
    add(aasist_open_bytes(nullptr, 5, nullptr, &opened), "bytes");
    add(aasist_open_bytes("x", 1, nullptr, nullptr), "model");
    add(aasist_model_info(nullptr, &info, sizeof info), "model");
    add(aasist_model_info(model, nullptr, sizeof info), "info");
    add(aasist_threshold(nullptr, "eer", &number), "model");
    add(aasist_threshold(model, nullptr, &number), "name");
    add(aasist_threshold(model, "eer", nullptr), "value");
    add(aasist_score(nullptr, &sample, 1, 1, &sample), "model");
    add(aasist_score(model, nullptr, 1, 800, &sample), "waves");
    add(aasist_score(model, &sample, 1, 800, nullptr), "scores");
    add(aasist_window(nullptr, &sample, 1, &sample, 1), "model");
    add(aasist_window(model, nullptr, 1, &sample, 1), "wave");
    add(aasist_window(model, &sample, 1, nullptr, 1), "window");
    add(aasist_score_file(nullptr, "x", &file), "model");
    add(aasist_score_file(model, nullptr, &file), "path");
    add(aasist_score_file(model, "x", nullptr), "result");
    add(aasist_score_files(nullptr, no_paths, 1, hear, nullptr), "model");
    add(aasist_score_files(model, nullptr, 1, hear, nullptr), "paths");
    add(aasist_score_files(model, no_paths, 1, nullptr, nullptr), "on_file");
    add(aasist_llr(nullptr, 0, &number), "model");
    add(aasist_llr(model, 0, nullptr), "llr");
    add(aasist_p_spoof(nullptr, 0, 0.5, &number), "model");
    add(aasist_p_spoof(model, 0, 0.5, nullptr), "p_spoof");
    add(aasist_read_audio(nullptr, 16000, 0, &wave, &n), "path");
    add(aasist_read_audio("x", 16000, 0, nullptr, &n), "wave");
    add(aasist_read_audio("x", 16000, 0, &wave, nullptr), "n_samples");
    add(aasist_stream_open(nullptr, 0, 16000, 1, 800, &stream), "model");
    add(aasist_stream_open(model, 0, 16000, 1, 800, nullptr), "stream");
    add(aasist_stream_push(nullptr, "x", 1), "stream");
    add(aasist_stream_finish(nullptr), "stream");
    for (const auto& row : rows) {
      CHECK(row.status == AASIST_USAGE);
      CHECK(row.message == std::string(row.named) + " is NULL.");
    }
    aasist_window_score window{};
    CHECK(aasist_stream_next(nullptr, &window) == -1);
    REQUIRE(aasist_stream_open(model, 0, 16000, 1, 800, &stream) == AASIST_OK);
    CHECK(aasist_stream_next(stream, nullptr) == -1);
    CHECK(aasist_stream_push(stream, nullptr, 1) == AASIST_USAGE);
    CHECK(aasist_stream_push(stream, nullptr, 0) == AASIST_OK);
    aasist_stream_close(stream);
    aasist_close(nullptr);
    aasist_stream_close(nullptr);
    aasist_free(nullptr);
  }

  TEST_CASE("structs of another size are told apart") {
    aasist_options options{};
    CHECK(aasist_options_init(&options, 3) == AASIST_USAGE);
    CHECK(aasist_options_init(&options, sizeof options + 8) == AASIST_USAGE);
    REQUIRE(aasist_options_init(&options, sizeof options) == AASIST_OK);
    options.size = sizeof options + 8;
    aasist_model* opened = nullptr;
    const Bytes bytes = tiny();
    CHECK(aasist_open_bytes(bytes.data(), bytes.size(), &options, &opened) == AASIST_USAGE);
    CHECK_MESSAGE_SAYS("aasist_options says it has");
    options.size = 0;
    CHECK(aasist_open_bytes(bytes.data(), bytes.size(), &options, &opened) == AASIST_USAGE);
    // What a program knows that was compiled for fewer fields.
    options.size = sizeof(size_t) + sizeof(int32_t);
    options.threads = 1;
    options.max_batch = -5;
    CHECK(aasist_open_bytes(bytes.data(), bytes.size(), &options, &opened) == AASIST_OK);
    aasist_info info{};
    info.architecture = "untouched";
    CHECK(aasist_model_info(opened, &info, sizeof(size_t)) == AASIST_OK);
    CHECK(std::string(info.architecture) == "untouched");
    CHECK(aasist_model_info(opened, &info, 2) == AASIST_USAGE);
    aasist_close(opened);
  }

  TEST_CASE("options that cannot be are refused") {
    const Bytes bytes = tiny();
    const auto status_of = [&bytes](int32_t threads, int32_t max_batch) {
      aasist_options options{};
      aasist_options_init(&options, sizeof options);
      options.threads = threads;
      options.max_batch = max_batch;
      aasist_model* opened = nullptr;
      const auto status = aasist_open_bytes(bytes.data(), bytes.size(), &options, &opened);
      aasist_close(opened);
      return status;
    };
    CHECK(status_of(-1, 0) == AASIST_USAGE);
    CHECK(status_of(5000, 0) == AASIST_USAGE);
    CHECK(status_of(0, -1) == AASIST_USAGE);
    CHECK(status_of(2, 3) == AASIST_OK);
  }
}

// The C border: checks pointers, turns exceptions into statuses, and lets none pass.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <stdexcept>

#include "aasist/aasist.h"
#include "audio.h"
#include "engine.h"
#include "error.h"
#include "files.h"
#include "onnx_file.h"
#include "stream.h"

struct aasist_model {
  aasist::Engine engine;
};

struct aasist_stream {
  aasist::Stream stream;
};

namespace {

using aasist::Error;

constexpr int32_t kMaxThreads = 1024;

// Of fixed size, so that telling of an error never needs memory.
thread_local char last_message[2048] = "";
thread_local char last_fix[512] = "";

template <size_t N>
void keep(char (&target)[N], const char* text) noexcept {
  const size_t n = std::strlen(text);
  std::memcpy(target, text, std::min(n, N - 1));
  target[std::min(n, N - 1)] = '\0';
  if (n >= N) std::memcpy(target + N - 4, "...", 4);
}

aasist_status failed(aasist_status status, const char* message, const char* fix = "") noexcept {
  keep(last_message, message);
  keep(last_fix, fix);
  return status;
}

template <typename Action>
aasist_status guarded(Action action) noexcept {
  try {
    action();
    return AASIST_OK;
  } catch (const Error& error) {
    return failed(error.status(), error.what(), error.fix().c_str());
  } catch (const std::bad_alloc&) {
    return failed(AASIST_ENVIRONMENT, "There is not enough memory.");
  } catch (const std::length_error&) {
    return failed(AASIST_ENVIRONMENT, "There is not enough memory: more was asked for than can be addressed.");
  } catch (const std::exception& error) {
    return failed(AASIST_INTERNAL, error.what());
  } catch (...) {
    return failed(AASIST_INTERNAL, "An exception of an unknown type.");
  }
}

void need(const void* pointer, const char* name) {
  if (pointer == nullptr) throw Error(AASIST_USAGE, std::string(name) + " is NULL.");
}

aasist::EngineOptions options_of(const aasist_options* given) {
  aasist::EngineOptions options;
  if (given == nullptr) return options;
  if (given->size < sizeof(size_t) || given->size > sizeof(aasist_options)) {
    throw Error(AASIST_USAGE,
                "aasist_options says it has " + std::to_string(given->size) + " bytes; this library knows " +
                    std::to_string(sizeof(aasist_options)) + ".",
                "fill it with aasist_options_init; a program that was compiled for a newer library needs that one");
  }
  aasist_options known{};
  std::memcpy(&known, given, given->size);
  if (known.threads < 0 || known.threads > kMaxThreads) {
    throw Error(AASIST_USAGE, "The number of threads is " + std::to_string(known.threads) + "; it must be 1 to 1024, or 0.");
  }
  if (known.max_batch < 0) {
    throw Error(AASIST_USAGE, "max_batch is " + std::to_string(known.max_batch) + "; it must be 1 or more, or 0.");
  }
  options.threads = known.threads;
  if (known.max_batch > 0) options.max_batch = static_cast<size_t>(known.max_batch);
  options.allow_slow_precision = known.allow_slow_precision != 0;
  return options;
}

template <typename ReadFile>
aasist_status open_model(const aasist_options* options, aasist_model** model, const std::string& name, ReadFile read_file) {
  if (model != nullptr) *model = nullptr;
  return guarded([&] {
    need(model, "model");
    const auto wanted = options_of(options);
    const aasist::OnnxFile file = read_file();
    *model = new aasist_model{{file, name, wanted}};
  });
}

}  // namespace

extern "C" {

const char* aasist_version(void) { return AASIST_VERSION; }

int aasist_abi_version(void) { return AASIST_ABI_VERSION; }

aasist_status aasist_check_abi(int header) {
  return guarded([&] {
    if (header != AASIST_ABI_VERSION) {
      throw Error(AASIST_ENVIRONMENT,
                  "The program was compiled for ABI " + std::to_string(header) + " of libaasist; the library that was loaded (" +
                      AASIST_VERSION + ") has ABI " + std::to_string(AASIST_ABI_VERSION) + ".",
                  "compile the program again with the header of that library");
    }
  });
}

const char* aasist_runtime_version(void) {
  const char* version = "";
  guarded([&] { version = aasist::runtime_version(); });
  return version;
}

const char* aasist_message(void) { return last_message; }

const char* aasist_fix(void) { return last_fix; }

const char* aasist_status_name(int32_t status) {
  switch (status) {
    case AASIST_OK:
      return "ok";
    case AASIST_USAGE:
      return "UsageError";
    case AASIST_MODEL_FILE:
      return "ModelFileError";
    case AASIST_AUDIO:
      return "AudioError";
    case AASIST_SHAPE:
      return "ShapeError";
    case AASIST_ENVIRONMENT:
      return "EnvironmentLacks";
    case AASIST_INTERNAL:
      return "internal";
  }
  return "unknown";
}

aasist_status aasist_options_init(aasist_options* options, size_t size) {
  return guarded([&] {
    need(options, "options");
    if (size < sizeof(size_t) || size > sizeof(aasist_options)) {
      throw Error(AASIST_USAGE, "aasist_options has " + std::to_string(size) + " bytes there and " +
                                    std::to_string(sizeof(aasist_options)) + " here.");
    }
    std::memset(static_cast<void*>(options), 0, size);
    options->size = size;
  });
}

aasist_status aasist_open(const char* path, const aasist_options* options, aasist_model** model) {
  if (path != nullptr && aasist::is_plan(path)) {
    if (model != nullptr) *model = nullptr;
    return guarded([&] {
      need(model, "model");
      const auto wanted = options_of(options);
      *model = new aasist_model{{aasist::read_plan(path), path, wanted}};
    });
  }
  return open_model(options, model, path == nullptr ? "" : path, [path] {
    need(path, "path");
    return aasist::read_onnx_file(path);
  });
}

aasist_status aasist_open_bytes(const void* bytes, size_t n_bytes, const aasist_options* options, aasist_model** model) {
  const std::string name = "the model in memory";
  return open_model(options, model, name, [&] {
    need(bytes, "bytes");
    const auto* const start = static_cast<const uint8_t*>(bytes);
    return aasist::parse_onnx(std::vector<uint8_t>(start, start + n_bytes), name);
  });
}

void aasist_close(aasist_model* model) { delete model; }

aasist_status aasist_model_info(const aasist_model* model, aasist_info* info, size_t size) {
  return guarded([&] {
    need(model, "model");
    need(info, "info");
    if (size < sizeof(size_t)) throw Error(AASIST_USAGE, "aasist_info has " + std::to_string(size) + " bytes there.");
    const auto& contract = model->engine.contract();
    aasist_info known{};
    known.size = std::min(size, sizeof known);
    known.architecture = contract.architecture.c_str();
    known.score = contract.score.c_str();
    known.precision = contract.precision.c_str();
    known.topk_method = contract.topk_method.c_str();
    known.graph_sha256 = contract.graph_sha256.c_str();
    known.checkpoint_sha256 = contract.checkpoint_sha256.c_str();
    known.contract_json = contract.json.c_str();
    known.sample_rate_hz = contract.sample_rate_hz;
    known.is_calibrated = contract.calibration ? 1 : 0;
    known.n_samples = contract.n_samples.value_or(0);
    known.min_samples = contract.min_samples;
    known.max_samples = contract.max_samples.value_or(0);
    known.smallest_batch = contract.smallest_batch;
    known.largest_batch = contract.largest_batch.value_or(0);
    known.frame_samples = contract.stream ? static_cast<int64_t>(contract.stream->frame_samples) : 0;
    std::memcpy(static_cast<void*>(info), &known, known.size);
  });
}

aasist_status aasist_threshold(const aasist_model* model, const char* name, double* value) {
  return guarded([&] {
    need(model, "model");
    need(name, "name");
    need(value, "value");
    const auto& thresholds = model->engine.contract().thresholds;
    const auto at = thresholds.find(name);
    if (at == thresholds.end()) {
      std::string names;
      for (const auto& threshold : thresholds) names += (names.empty() ? "" : ", ") + threshold.first;
      throw Error(AASIST_USAGE, std::string("The model has no threshold '") + name + "'; it has " +
                                    (names.empty() ? "none" : names) + ".");
    }
    *value = at->second;
  });
}

aasist_status aasist_score(const aasist_model* model, const float* waves, size_t n_waves, size_t n_samples, float* scores) {
  return guarded([&] {
    need(model, "model");
    need(waves, "waves");
    need(scores, "scores");
    model->engine.score(waves, n_waves, n_samples, scores);
  });
}

size_t aasist_window_samples(const aasist_model* model, size_t n_samples) {
  return model == nullptr || n_samples == 0 ? 0 : model->engine.contract().window_of(n_samples);
}

aasist_status aasist_window(const aasist_model* model, const float* wave, size_t n_samples, float* window, size_t capacity) {
  return guarded([&] {
    need(model, "model");
    need(wave, "wave");
    need(window, "window");
    if (n_samples == 0) throw Error(AASIST_SHAPE, "The wave holds no samples.");
    const size_t wanted = model->engine.contract().window_of(n_samples);
    if (capacity < wanted) {
      throw Error(AASIST_SHAPE, "The window has " + std::to_string(wanted) + " samples; there is room for " +
                                    std::to_string(capacity) + ".");
    }
    aasist::fit_length(wave, n_samples, window, wanted);
  });
}

aasist_status aasist_score_file(const aasist_model* model, const char* path, aasist_file_score* result) {
  const aasist_status status = guarded([&] {
    need(model, "model");
    need(path, "path");
    need(result, "result");
    *result = aasist::score_file(model->engine, path);
  });
  if (status != AASIST_OK && result != nullptr) {
    *result = {};
    result->status = status;
    result->score = std::numeric_limits<float>::quiet_NaN();
    result->llr = result->p_spoof = std::numeric_limits<double>::quiet_NaN();
  }
  return status;
}

aasist_status aasist_score_files(const aasist_model* model, const char* const* paths, size_t n_paths, aasist_on_file on_file,
                                 void* user) {
  return guarded([&] {
    need(model, "model");
    if (on_file == nullptr) throw Error(AASIST_USAGE, "on_file is NULL.");
    if (n_paths == 0) return;
    need(static_cast<const void*>(paths), "paths");
    aasist::score_files(model->engine, paths, n_paths,
                        [&](size_t index, const aasist_file_score& result, const std::string& message) {
                          return on_file(user, index, &result, message.c_str()) == 0;
                        });
  });
}

aasist_status aasist_llr(const aasist_model* model, double score, double* llr) {
  return guarded([&] {
    need(model, "model");
    need(llr, "llr");
    *llr = model->engine.llr(score);
  });
}

aasist_status aasist_p_spoof(const aasist_model* model, double score, double prior_spoof, double* p_spoof) {
  return guarded([&] {
    need(model, "model");
    need(p_spoof, "p_spoof");
    *p_spoof = model->engine.p_spoof(score, prior_spoof);
  });
}

aasist_status aasist_read_audio(const char* path, int32_t sample_rate_hz, size_t max_samples, float** wave, size_t* n_samples) {
  if (wave != nullptr) *wave = nullptr;
  if (n_samples != nullptr) *n_samples = 0;
  return guarded([&] {
    need(path, "path");
    need(wave, "wave");
    need(n_samples, "n_samples");
    const aasist::Audio audio = aasist::read_audio(path, sample_rate_hz, max_samples);
    auto* const copy = static_cast<float*>(std::malloc(audio.wave.size() * sizeof(float)));
    if (copy == nullptr) throw std::bad_alloc();
    std::copy(audio.wave.begin(), audio.wave.end(), copy);
    *wave = copy;
    *n_samples = audio.wave.size();
  });
}

void aasist_free(float* wave) { std::free(wave); }

aasist_status aasist_stream_open(const aasist_model* model, int32_t format, int32_t rate_hz, int32_t channels,
                                 uint64_t hop_samples, aasist_stream** stream) {
  if (stream != nullptr) *stream = nullptr;
  return guarded([&] {
    need(model, "model");
    need(stream, "stream");
    *stream = new aasist_stream{{model->engine, format, rate_hz, channels, hop_samples}};
  });
}

aasist_status aasist_stream_push(aasist_stream* stream, const void* bytes, size_t n_bytes) {
  return guarded([&] {
    need(stream, "stream");
    if (n_bytes == 0) return;
    need(bytes, "bytes");
    stream->stream.push(static_cast<const uint8_t*>(bytes), n_bytes);
  });
}

aasist_status aasist_stream_finish(aasist_stream* stream) {
  return guarded([&] {
    need(stream, "stream");
    stream->stream.finish();
  });
}

int aasist_stream_next(aasist_stream* stream, aasist_window_score* window) {
  if (stream == nullptr || window == nullptr) return -1;
  const auto next = stream->stream.next();
  if (next) *window = *next;
  return next ? 1 : 0;
}

void aasist_stream_close(aasist_stream* stream) { delete stream; }

}  // extern "C"

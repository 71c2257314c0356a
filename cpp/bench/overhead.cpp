// Times one window on ONNX Runtime alone and through libaasist, one at a time as stdin says, for
// benchmarks/cpp_speed.py:  overhead MODEL THREADS < commands
// Each line "bare" or "library" is answered by milliseconds and the score.
#include <aasist/aasist.h>
#include <onnxruntime_c_api.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

namespace {

const OrtApi* const ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);

void check(OrtStatus* status) {
  if (status == nullptr) return;
  std::fprintf(stderr, "%s\n", ort->GetErrorMessage(status));
  std::exit(2);
}

void check(aasist_status status) {
  if (status == AASIST_OK) return;
  std::fprintf(stderr, "%s\n", aasist_message());
  std::exit(2);
}

OrtSession* bare_session(const char* path, int threads) {
  OrtEnv* env = nullptr;
  OrtSessionOptions* options = nullptr;
  OrtSession* session = nullptr;
  check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "bare", &env));
  check(ort->CreateSessionOptions(&options));
  check(ort->SetIntraOpNumThreads(options, threads));
  check(ort->AddSessionConfigEntry(options, "session.intra_op.allow_spinning", "0"));
  check(ort->CreateSession(env, path, options, &session));
  return session;
}

// What a program that knows the model by heart would do: one input, one output, no checks.
float bare_score(OrtSession* session, OrtMemoryInfo* cpu, std::vector<float>& wave) {
  const int64_t shape[2] = {1, static_cast<int64_t>(wave.size())};
  const char* const inputs[] = {"wave"};
  const char* const outputs[] = {"score"};
  OrtValue* input = nullptr;
  OrtValue* output = nullptr;
  void* data = nullptr;
  check(ort->CreateTensorWithDataAsOrtValue(cpu, wave.data(), wave.size() * sizeof(float), shape, 2,
                                            ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &input));
  check(ort->Run(session, nullptr, inputs, &input, 1, outputs, 1, &output));
  check(ort->GetTensorMutableData(output, &data));
  const float score = *static_cast<float*>(data);
  ort->ReleaseValue(output);
  ort->ReleaseValue(input);
  return score;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  aasist_options options{};
  aasist_model* model = nullptr;
  aasist_info info{};
  check(aasist_options_init(&options, sizeof options));
  options.threads = std::atoi(argv[2]);
  check(aasist_open(argv[1], &options, &model));
  check(aasist_model_info(model, &info, sizeof info));
  OrtSession* const session = bare_session(argv[1], options.threads);
  OrtMemoryInfo* cpu = nullptr;
  check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &cpu));
  std::vector<float> wave(static_cast<size_t>(info.n_samples));
  for (size_t i = 0; i < wave.size(); ++i) wave[i] = 0.1F * std::sin(0.05F * static_cast<float>(i));
  for (std::string line; std::getline(std::cin, line);) {
    float score = 0;
    const auto start = std::chrono::steady_clock::now();
    if (line == "bare") {
      score = bare_score(session, cpu, wave);
    } else {
      check(aasist_score(model, wave.data(), 1, wave.size(), &score));
    }
    const std::chrono::duration<double, std::milli> passed = std::chrono::steady_clock::now() - start;
    std::printf("%.6f %.9g\n", passed.count(), static_cast<double>(score));
    std::fflush(stdout);
  }
  return 0;
}

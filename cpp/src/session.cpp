#include "session.h"

#include <onnxruntime_c_api.h>

#include <algorithm>
#include <memory>
#include <set>

#include "engine.h"
#include "error.h"

namespace aasist {
namespace {

constexpr int64_t kBonaFide = 1;  // column of `logits`; the contract's class order says so

const OrtApi& api() {
  static const OrtApi* const found = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  if (found == nullptr) {
    throw Error(AASIST_ENVIRONMENT,
                std::string("ONNX Runtime ") + OrtGetApiBase()->GetVersionString() + " is older than its headers here (API " +
                    std::to_string(ORT_API_VERSION) + ").",
                "install ONNX Runtime 1." + std::to_string(ORT_API_VERSION) + " or newer");
  }
  return *found;
}

// Frees with the function of the API that fits.
template <typename T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

template <typename T>
Owned<T> owned(T* object, void (*release)(T*)) {
  return Owned<T>(object, release);
}

// The first line of a failed status, or nothing.
std::string failure(const OrtApi& ort, OrtStatus* status) {
  if (status == nullptr) return "";
  std::string text = ort.GetErrorMessage(status);
  ort.ReleaseStatus(status);
  text = text.substr(0, text.find('\n'));
  return text.empty() ? "no reason given" : text;
}

void check(const OrtApi& ort, OrtStatus* status, const char* doing) {
  if (const auto reason = failure(ort, status); !reason.empty()) {
    throw Error(AASIST_INTERNAL, std::string("ONNX Runtime failed ") + doing + ": " + reason);
  }
}

// One environment for the process, never freed: its threads of logging must outlive every session, and the
// order in which static objects of two libraries end is not defined.
OrtEnv* environment() {
  static OrtEnv* const env = [] {
    OrtEnv* made = nullptr;
    check(api(), api().CreateEnv(ORT_LOGGING_LEVEL_ERROR, "aasist", &made), "to start");
    return made;
  }();
  return env;
}

std::vector<std::string> names_of(const OrtApi& ort, const OrtSession* session, bool inputs) {
  OrtAllocator* allocator = nullptr;
  check(ort, ort.GetAllocatorWithDefaultOptions(&allocator), "to find its allocator");
  size_t n = 0;
  check(ort, inputs ? ort.SessionGetInputCount(session, &n) : ort.SessionGetOutputCount(session, &n), "to count names");
  std::vector<std::string> names;
  for (size_t i = 0; i < n; ++i) {
    char* text = nullptr;
    check(ort,
          inputs ? ort.SessionGetInputName(session, i, allocator, &text)
                 : ort.SessionGetOutputName(session, i, allocator, &text),
          "to tell a name");
    names.emplace_back(text);
    check(ort, ort.AllocatorFree(allocator, text), "to free a name");
  }
  return names;
}

template <typename Names>
std::string joined(const Names& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

const char* runtime_version() {
  api();
  return OrtGetApiBase()->GetVersionString();
}

Session::Session(const OnnxFile& file, const Contract& contract, int threads, const std::string& name)
    : api_(api()),
      input_(contract.input_name),
      output_(contract.outputs.count("score") != 0 ? "score" : "logits"),
      is_logits_(output_ == "logits") {
  OrtSessionOptions* made = nullptr;
  check(api_, api_.CreateSessionOptions(&made), "to make options");
  const auto options = owned(made, api_.ReleaseSessionOptions);
  check(api_, api_.SetSessionLogSeverityLevel(made, ORT_LOGGING_LEVEL_ERROR), "to set its log level");
  check(api_, api_.SetIntraOpNumThreads(made, threads), "to set its threads");
  check(api_, api_.SetInterOpNumThreads(made, 1), "to set its threads");
  // Threads that spin between calls take the cores that decode audio.
  check(api_, api_.AddSessionConfigEntry(made, "session.intra_op.allow_spinning", "0"), "to set its threads");
  check(api_, api_.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &cpu_), "to describe memory");
  const auto reason = failure(
      api_, api_.CreateSessionFromArray(environment(), file.content.data(), file.content.size(), made, &session_));
  try {
    if (!reason.empty()) {
      throw Error(AASIST_MODEL_FILE,
                  std::string("ONNX Runtime ") + runtime_version() + " cannot open " + name + ": " + reason,
                  "export the checkpoint again with the installed version");
    }
    check_names(contract, name);
  } catch (...) {
    if (session_ != nullptr) api_.ReleaseSession(session_);
    api_.ReleaseMemoryInfo(cpu_);
    throw;
  }
}

Session::~Session() {
  api_.ReleaseSession(session_);
  api_.ReleaseMemoryInfo(cpu_);
}

void Session::check_names(const Contract& contract, const std::string& name) const {
  const auto inputs = names_of(api_, session_, true);
  const auto outputs = names_of(api_, session_, false);
  const auto has = [&outputs](const auto& output) {
    return std::find(outputs.begin(), outputs.end(), output.first) != outputs.end();
  };
  if (inputs != std::vector{contract.input_name} ||
      !std::all_of(contract.outputs.begin(), contract.outputs.end(), has)) {
    std::vector<std::string> said;
    for (const auto& output : contract.outputs) said.push_back(output.first);
    throw Error(AASIST_MODEL_FILE,
                "The contract in " + name + " says " + contract.input_name + " -> " + joined(said) + "; the graph has " +
                    joined(inputs) + " -> " + joined(outputs) + ".",
                "export the checkpoint again");
  }
  OrtTypeInfo* type = nullptr;
  check(api_, api_.SessionGetInputTypeInfo(session_, 0, &type), "to tell its input");
  const auto type_owner = owned(type, api_.ReleaseTypeInfo);
  const OrtTensorTypeAndShapeInfo* shape = nullptr;
  check(api_, api_.CastTypeInfoToTensorInfo(type, &shape), "to tell its input");
  size_t n_axes = 0;
  ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  if (shape != nullptr) {
    check(api_, api_.GetDimensionsCount(shape, &n_axes), "to tell its input");
    check(api_, api_.GetTensorElementType(shape, &element), "to tell its input");
  }
  if (n_axes != 2 || element != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
    throw Error(AASIST_MODEL_FILE, "The input of " + name + " is no float32 array of (batch, samples).",
                "export the checkpoint again");
  }
  int64_t sizes[2] = {-1, -1};
  check(api_, api_.GetDimensions(shape, sizes, 2), "to tell its input");
  if (sizes[1] > 0 && contract.n_samples != sizes[1]) {
    const auto said = contract.n_samples ? std::to_string(*contract.n_samples) : "any number of";
    throw Error(AASIST_MODEL_FILE,
                "The contract in " + name + " says waves of " + said + " samples; the graph takes " +
                    std::to_string(sizes[1]) + ".",
                "export the checkpoint again");
  }
}

void Session::run(const float* waves, size_t n_waves, size_t n_samples, float* scores) const {
  const int64_t sizes[2] = {static_cast<int64_t>(n_waves), static_cast<int64_t>(n_samples)};
  OrtValue* input = nullptr;
  // ONNX Runtime reads an input and never writes it; its signature only lacks the const.
  check(api_,
        api_.CreateTensorWithDataAsOrtValue(cpu_, const_cast<float*>(waves), n_waves * n_samples * sizeof(float), sizes, 2,
                                            ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &input),
        "to take the waves");
  const auto input_owner = owned(input, api_.ReleaseValue);
  const char* const inputs[] = {input_.c_str()};
  const char* const outputs[] = {output_.c_str()};
  OrtValue* result = nullptr;
  check(api_, api_.Run(session_, nullptr, inputs, &input, 1, outputs, 1, &result), "to score");
  const auto result_owner = owned(result, api_.ReleaseValue);
  OrtTensorTypeAndShapeInfo* shape = nullptr;
  check(api_, api_.GetTensorTypeAndShape(result, &shape), "to tell its output");
  const auto shape_owner = owned(shape, api_.ReleaseTensorTypeAndShapeInfo);
  size_t n_values = 0;
  ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  check(api_, api_.GetTensorShapeElementCount(shape, &n_values), "to tell its output");
  check(api_, api_.GetTensorElementType(shape, &element), "to tell its output");
  const size_t columns = is_logits_ ? 2 : 1;
  if (n_values != n_waves * columns || element != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
    throw Error(AASIST_MODEL_FILE,
                "The model gives " + std::to_string(n_values) + " values for " + std::to_string(n_waves) +
                    " waves as '" + output_ + "', or no float32; " + std::to_string(n_waves * columns) + " are wanted.",
                "export the checkpoint again");
  }
  void* values = nullptr;
  check(api_, api_.GetTensorMutableData(result, &values), "to give its output");
  const auto* const given = static_cast<const float*>(values);
  for (size_t i = 0; i < n_waves; ++i) {
    scores[i] = is_logits_ ? given[i * columns + static_cast<size_t>(kBonaFide)] : given[i];
  }
}

}  // namespace aasist

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
      is_logits_(output_ == "logits"),
      state_size_(contract.stream ? contract.stream->state_size : 0),
      state_input_(contract.stream ? contract.stream->state_input : ""),
      state_output_(contract.stream ? contract.stream->state_output : "") {
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
  std::set<std::string> said_inputs{contract.input_name};
  std::vector<std::string> said;
  for (const auto& output : contract.outputs) said.push_back(output.first);
  if (contract.stream) {
    said_inputs.insert(state_input_);
    said.push_back(state_output_);
  }
  const auto has = [&outputs](const std::string& output) {
    return std::find(outputs.begin(), outputs.end(), output) != outputs.end();
  };
  if (std::set<std::string>(inputs.begin(), inputs.end()) != said_inputs || inputs.size() != said_inputs.size() ||
      !std::all_of(said.begin(), said.end(), has)) {
    throw Error(AASIST_MODEL_FILE,
                "The contract in " + name + " says " + joined(said_inputs) + " -> " + joined(said) + "; the graph has " +
                    joined(inputs) + " -> " + joined(outputs) + ".",
                "export the checkpoint again");
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    const bool is_state = contract.stream && inputs[i] == state_input_;
    if (is_state) {
      check_input(i, static_cast<int64_t>(state_size_), name);
    } else {
      // Calls of a stream differ in their number of frames, which is no length that a graph may fix.
      check_input(i, contract.stream || !contract.n_samples ? -1 : *contract.n_samples, name);
    }
  }
}

// `columns`: the length of the second axis, or -1 where any is to be taken.
void Session::check_input(size_t index, int64_t columns, const std::string& name) const {
  OrtTypeInfo* type = nullptr;
  check(api_, api_.SessionGetInputTypeInfo(session_, index, &type), "to tell its input");
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
    throw Error(AASIST_MODEL_FILE, "An input of " + name + " is no float32 array of two axes.", "export the checkpoint again");
  }
  int64_t sizes[2] = {-1, -1};
  check(api_, api_.GetDimensions(shape, sizes, 2), "to tell its input");
  if (sizes[1] > 0 && sizes[1] != columns) {
    const auto said = columns > 0 ? std::to_string(columns) : "any number of";
    throw Error(AASIST_MODEL_FILE,
                "The contract in " + name + " says waves of " + said + " samples; the graph takes " +
                    std::to_string(sizes[1]) + ".",
                "export the checkpoint again");
  }
}

// ONNX Runtime reads an input and never writes it; its signature only lacks the const.
OrtValue* Session::tensor(const float* values, size_t rows, size_t columns) const {
  const int64_t sizes[2] = {static_cast<int64_t>(rows), static_cast<int64_t>(columns)};
  OrtValue* made = nullptr;
  check(api_,
        api_.CreateTensorWithDataAsOrtValue(cpu_, const_cast<float*>(values), rows * columns * sizeof(float), sizes, 2,
                                            ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &made),
        "to take the waves");
  return made;
}

const float* Session::values_of(OrtValue* result, size_t wanted, const std::string& output) const {
  OrtTensorTypeAndShapeInfo* shape = nullptr;
  check(api_, api_.GetTensorTypeAndShape(result, &shape), "to tell its output");
  const auto shape_owner = owned(shape, api_.ReleaseTensorTypeAndShapeInfo);
  size_t n_values = 0;
  ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  check(api_, api_.GetTensorShapeElementCount(shape, &n_values), "to tell its output");
  check(api_, api_.GetTensorElementType(shape, &element), "to tell its output");
  if (n_values != wanted || element != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
    throw Error(AASIST_MODEL_FILE,
                "The model gives " + std::to_string(n_values) + " values as '" + output + "', or no float32; " +
                    std::to_string(wanted) + " are wanted.",
                "export the checkpoint again");
  }
  void* values = nullptr;
  check(api_, api_.GetTensorMutableData(result, &values), "to give its output");
  return static_cast<const float*>(values);
}

void Session::run(const float* waves, size_t n_waves, size_t n_samples, float* scores) const {
  const auto input = owned(tensor(waves, n_waves, n_samples), api_.ReleaseValue);
  const OrtValue* const given[] = {input.get()};
  const char* const inputs[] = {input_.c_str()};
  const char* const outputs[] = {output_.c_str()};
  OrtValue* result = nullptr;
  check(api_, api_.Run(session_, nullptr, inputs, given, 1, outputs, 1, &result), "to score");
  const auto result_owner = owned(result, api_.ReleaseValue);
  const size_t columns = is_logits_ ? 2 : 1;
  const float* const values = values_of(result, n_waves * columns, output_);
  for (size_t i = 0; i < n_waves; ++i) {
    scores[i] = is_logits_ ? values[i * columns + static_cast<size_t>(kBonaFide)] : values[i];
  }
}

float Session::step(const float* samples, size_t n_samples, float* state) const {
  const auto wave = owned(tensor(samples, 1, n_samples), api_.ReleaseValue);
  const auto before = owned(tensor(state, 1, state_size_), api_.ReleaseValue);
  const OrtValue* const given[] = {wave.get(), before.get()};
  const char* const inputs[] = {input_.c_str(), state_input_.c_str()};
  const char* const outputs[] = {output_.c_str(), state_output_.c_str()};
  OrtValue* results[] = {nullptr, nullptr};
  check(api_, api_.Run(session_, nullptr, inputs, given, 2, outputs, 2, results), "to score");
  const auto result_owner = owned(results[0], api_.ReleaseValue);
  const auto state_owner = owned(results[1], api_.ReleaseValue);
  const float* const values = values_of(results[0], is_logits_ ? 2 : 1, output_);
  const float score = values[is_logits_ ? kBonaFide : 0];
  std::copy_n(values_of(results[1], state_size_, state_output_), state_size_, state);
  return score;
}

}  // namespace aasist

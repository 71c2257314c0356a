#include "trt.h"

#include "error.h"

#if AASIST_TENSORRT

#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <vector>

namespace aasist {
namespace {

void check(cudaError_t error, const char* doing) {
  if (error != cudaSuccess) {
    throw Error(AASIST_ENVIRONMENT, std::string("CUDA failed ") + doing + ": " + cudaGetErrorString(error) + ".",
                "see that the driver runs (nvidia-smi) and that memory on the GPU is free");
  }
}

// Keeps what TensorRT says, for the message of what fails next.
class Log final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* text) noexcept override {
    if (severity > Severity::kERROR) return;
    try {
      const std::lock_guard<std::mutex> lock(mutex_);
      said_ = text;
    } catch (...) {  // a message is not worth the process
    }
  }
  std::string said() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return said_.empty() ? "no reason given" : said_;
  }

 private:
  std::mutex mutex_;
  std::string said_;
};

class DeviceArray {
 public:
  explicit DeviceArray(size_t n_floats) { check(cudaMalloc(&data_, n_floats * sizeof(float)), "to take memory on the GPU"); }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  void* get() const { return data_; }

 private:
  void* data_ = nullptr;
};

// The GPU that is current in the thread which opens the plan.
int current_device() {
  int n_devices = 0;
  check(cudaGetDeviceCount(&n_devices), "to look for a GPU");
  int device = 0;
  check(cudaGetDevice(&device), "to look for a GPU");
  return device;
}

TensorRtHere here(int device) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "to look at the GPU");
  const auto compiled = std::to_string(NV_TENSORRT_MAJOR) + "." + std::to_string(NV_TENSORRT_MINOR) + "." +
                        std::to_string(NV_TENSORRT_PATCH) + "." + std::to_string(NV_TENSORRT_BUILD);
  // A library that is newer than its headers would be taken for another version than it is.
  if (getInferLibVersion() != NV_TENSORRT_VERSION) {
    throw Error(AASIST_ENVIRONMENT,
                "This library was compiled for TensorRT " + compiled + "; the one that was loaded says " +
                    std::to_string(getInferLibVersion()) + ".",
                "compile libaasist with the headers of the TensorRT that is installed");
  }
  return {compiled, properties.name, properties.major, properties.minor};
}

// One execution context: calls are taken one after another.
class TrtBackend final : public Backend {
 public:
  TrtBackend(const PlanFile& plan, const std::string& path)
      : path_(path),
        n_samples_(*plan.contract.n_samples),
        input_(plan.contract.input_name),
        output_(plan.contract.outputs.count("score") != 0 ? "score" : "logits"),
        columns_(output_ == "logits" ? 2 : 1),
        profiles_(plan.profiles),
        device_(current_device()) {
    check_fits(plan, path, here(device_));
    runtime_.reset(nvinfer1::createInferRuntime(log_));
    if (runtime_ == nullptr) throw lacks("cannot start");
    // Such a plan holds a lean runtime, which is code. Its hash was checked.
    if (plan.version_compatible) runtime_->setEngineHostCodeAllowed(true);
    engine_.reset(runtime_->deserializeCudaEngine(plan.content.data(), plan.content.size()));
    if (engine_ == nullptr) throw other("does not take it: " + log_.said());
    check_tensors();
    context_.reset(engine_->createExecutionContext());
    if (context_ == nullptr) throw lacks("gave no execution context");
    const auto rows = static_cast<size_t>(plan.max_batch());
    samples_ = std::make_unique<DeviceArray>(rows * static_cast<size_t>(n_samples_));
    for (int32_t i = 0; i < engine_->getNbIOTensors(); ++i) {
      const char* const name = engine_->getIOTensorName(i);
      if (name == input_) continue;
      outputs_.push_back({name, std::make_unique<DeviceArray>(rows * row_of(name))});
    }
    check(cudaStreamCreate(&stream_), "to make a stream");
  }

  ~TrtBackend() override {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }
  TrtBackend(const TrtBackend&) = delete;
  TrtBackend& operator=(const TrtBackend&) = delete;

  void run(const float* waves, size_t n_waves, size_t n_samples, float* scores) const override {
    const std::lock_guard<std::mutex> lock(mutex_);
    check(cudaSetDevice(device_), "to turn to the GPU");  // a setting of the calling thread
    const int32_t profile = profile_for(static_cast<int64_t>(n_waves));
    const auto& sizes = profiles_[static_cast<size_t>(profile)];
    const auto batch = std::max(static_cast<int64_t>(n_waves), sizes[0]);
    const size_t n_bytes = n_waves * n_samples * sizeof(float);
    auto* const device = static_cast<uint8_t*>(samples_->get());
    check(cudaMemcpyAsync(device, waves, n_bytes, cudaMemcpyHostToDevice, stream_), "to copy waves");
    const size_t n_filled = static_cast<size_t>(batch) * n_samples * sizeof(float) - n_bytes;
    if (n_filled > 0) check(cudaMemsetAsync(device + n_bytes, 0, n_filled, stream_), "to fill up the batch");
    if (profile != profile_) {
      profile_ = -1;
      if (!context_->setOptimizationProfileAsync(profile, stream_)) throw lacks("did not take a profile");
      profile_ = profile;
    }
    nvinfer1::Dims shape{};
    shape.nbDims = 2;
    shape.d[0] = static_cast<decltype(shape.d[0] + 0)>(batch);
    shape.d[1] = static_cast<decltype(shape.d[0] + 0)>(n_samples);
    bool good = context_->setInputShape(input_.c_str(), shape) && context_->setTensorAddress(input_.c_str(), device);
    const void* result = nullptr;
    for (const auto& output : outputs_) {
      good = good && context_->setTensorAddress(output.name.c_str(), output.array->get());
      if (output.name == output_) result = output.array->get();
    }
    if (!good || !context_->enqueueV3(stream_)) throw lacks("did not run a batch of " + std::to_string(batch));
    std::vector<float> values(n_waves * columns_);
    check(cudaMemcpyAsync(values.data(), result, values.size() * sizeof(float), cudaMemcpyDeviceToHost, stream_),
          "to copy scores");
    check(cudaStreamSynchronize(stream_), "to score");
    for (size_t i = 0; i < n_waves; ++i) scores[i] = values[(i + 1) * columns_ - 1];  // bona fide is the last column
  }

  float step(const float*, size_t, float*) const override {
    throw Error(AASIST_MODEL_FILE, "A plan is no file for streams.");  // read_plan takes none
  }

 private:
  struct Output {
    std::string name;
    std::unique_ptr<DeviceArray> array;
  };

  Error lacks(const std::string& what) const {
    return Error(AASIST_ENVIRONMENT, "TensorRT " + what + " for " + path_ + ": " + log_.said() + ".",
                 "free memory on the GPU, or use a smaller batch");
  }
  Error other(const std::string& what) const {
    return Error(AASIST_MODEL_FILE, path_ + ": TensorRT " + what + ".",
                 "build the plan again: aasist-deploy export MODEL --to trt");
  }

  // Of the profiles that hold the batch, or a larger one, that with the nearest optimal batch.
  int32_t profile_for(int64_t n) const {
    int32_t best = -1;
    for (size_t i = 0; i < profiles_.size(); ++i) {
      if (profiles_[i][2] < n) continue;
      const auto distance = [&](size_t at) { return std::abs(profiles_[at][1] - n); };
      if (best < 0 || distance(i) < distance(static_cast<size_t>(best))) best = static_cast<int32_t>(i);
    }
    if (best < 0) throw Error(AASIST_SHAPE, path_ + " takes no batch of " + std::to_string(n) + ".");
    return best;
  }

  // Floats of one wave's part of an output.
  size_t row_of(const char* name) const {
    const auto shape = engine_->getTensorShape(name);
    size_t n = 1;
    for (int32_t axis = 1; axis < shape.nbDims; ++axis) {
      if (shape.d[axis] < 1) throw other(std::string("gives '") + name + "' in a shape that varies");
      n *= static_cast<size_t>(shape.d[axis]);
    }
    if (engine_->getTensorDataType(name) != nvinfer1::DataType::kFLOAT) {
      throw other(std::string("gives '") + name + "' in another type than float32");
    }
    return n;
  }

  void check_tensors() const {
    bool has_input = false;
    bool has_output = false;
    for (int32_t i = 0; i < engine_->getNbIOTensors(); ++i) {
      const std::string name = engine_->getIOTensorName(i);
      if (engine_->getTensorIOMode(name.c_str()) == nvinfer1::TensorIOMode::kINPUT) {
        if (name != input_) throw other("has an input '" + name + "', which the contract does not know");
        has_input = true;
      } else {
        has_output = has_output || name == output_;
      }
    }
    if (!has_input || !has_output) throw other("has no " + input_ + " -> " + output_ + ", as the contract says");
    const auto shape = engine_->getTensorShape(input_.c_str());
    if (shape.nbDims != 2 || shape.d[1] != n_samples_ ||
        engine_->getTensorDataType(input_.c_str()) != nvinfer1::DataType::kFLOAT) {
      throw other("takes no float32 waves of " + std::to_string(n_samples_) + " samples");
    }
    if (row_of(output_.c_str()) != columns_) throw other("gives '" + output_ + "' in another shape");
    if (engine_->getNbOptimizationProfiles() != static_cast<int32_t>(profiles_.size())) {
      throw other("has another number of profiles than its description");
    }
    for (size_t i = 0; i < profiles_.size(); ++i) {
      const auto index = static_cast<int32_t>(i);
      const auto low = engine_->getProfileShape(input_.c_str(), index, nvinfer1::OptProfileSelector::kMIN);
      const auto high = engine_->getProfileShape(input_.c_str(), index, nvinfer1::OptProfileSelector::kMAX);
      if (low.d[0] != profiles_[i][0] || high.d[0] != profiles_[i][2]) {
        throw other("has other profiles than its description");
      }
    }
  }

  const std::string path_;
  const int64_t n_samples_;
  const std::string input_;
  const std::string output_;
  const size_t columns_;
  const std::vector<Profile> profiles_;
  const int device_;
  mutable std::mutex mutex_;
  mutable Log log_;  // outlives what TensorRT made
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  std::unique_ptr<DeviceArray> samples_;
  std::vector<Output> outputs_;
  mutable int32_t profile_ = 0;  // that of a new context
  cudaStream_t stream_ = nullptr;
};

}  // namespace

std::unique_ptr<Backend> open_plan(const PlanFile& plan, const std::string& path) {
  return std::make_unique<TrtBackend>(plan, path);
}

}  // namespace aasist

#else

namespace aasist {

std::unique_ptr<Backend> open_plan(const PlanFile& plan, const std::string& path) {
  throw Error(AASIST_ENVIRONMENT,
              path + " is a TensorRT plan (" + plan.built_for() + "), and this libaasist was built without TensorRT.",
              "build it where NvInfer.h is, or open the .onnx file that the plan was built from");
}

}  // namespace aasist

#endif

#include "fake_tensorrt.h"

#include <NvInfer.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

namespace {

FakeTensorRt& fake() { return FakeTensorRt::instance(); }

class Context final : public nvinfer1::IExecutionContext {
 public:
  bool setOptimizationProfileAsync(int32_t profile, cudaStream_t) noexcept override {
    if (profile < 0 || profile >= static_cast<int32_t>(fake().profiles.size())) return false;
    profile_ = static_cast<size_t>(profile);
    return true;
  }
  bool setInputShape(const char* name, const nvinfer1::Dims& shape) noexcept override {
    const auto& sizes = fake().profiles[profile_];
    batch_ = shape.d[0];
    return std::string(name) == "wave" && shape.nbDims == 2 && shape.d[1] == fake().n_samples && batch_ >= sizes[0] &&
           batch_ <= sizes[2];
  }
  bool setTensorAddress(const char* name, void* address) noexcept override {
    addresses_[name] = static_cast<float*>(address);
    return true;
  }
  bool enqueueV3(cudaStream_t) noexcept override {
    if (fake().fails_to_run || addresses_.size() != 3) return false;
    fake().batches.push_back(batch_);
    for (int64_t i = 0; i < batch_; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < fake().n_samples; ++j) sum += static_cast<double>(addresses_["wave"][i * fake().n_samples + j]);
      const auto score = static_cast<float>(8 * sum / static_cast<double>(fake().n_samples));
      addresses_["score"][i] = score;
      addresses_["logits"][2 * i] = -score;
      addresses_["logits"][2 * i + 1] = score;
    }
    return true;
  }

 private:
  size_t profile_ = 0;
  int64_t batch_ = 0;
  std::map<std::string, float*> addresses_;
};

class Engine final : public nvinfer1::ICudaEngine {
 public:
  int32_t getNbIOTensors() const noexcept override { return 3; }
  const char* getIOTensorName(int32_t index) const noexcept override {
    static const char* const names[] = {"wave", "score", "logits"};
    return names[index];
  }
  nvinfer1::TensorIOMode getTensorIOMode(const char* name) const noexcept override {
    return std::string(name) == "wave" ? nvinfer1::TensorIOMode::kINPUT : nvinfer1::TensorIOMode::kOUTPUT;
  }
  nvinfer1::Dims getTensorShape(const char* name) const noexcept override {
    if (std::string(name) == "wave") return {2, {-1, fake().n_samples}};
    if (std::string(name) == "logits") return {2, {-1, 2}};
    return {1, {-1}};
  }
  nvinfer1::DataType getTensorDataType(const char*) const noexcept override { return nvinfer1::DataType::kFLOAT; }
  int32_t getNbOptimizationProfiles() const noexcept override { return static_cast<int32_t>(fake().profiles.size()); }
  nvinfer1::Dims getProfileShape(const char*, int32_t profile, nvinfer1::OptProfileSelector select) const noexcept override {
    return {2, {fake().profiles[static_cast<size_t>(profile)][static_cast<size_t>(select)], fake().n_samples}};
  }
  nvinfer1::IExecutionContext* createExecutionContext(nvinfer1::ExecutionContextAllocationStrategy) noexcept override {
    return new Context;
  }
};

class Runtime final : public nvinfer1::IRuntime {
 public:
  explicit Runtime(nvinfer1::ILogger& logger) : logger_(logger) {}
  void setEngineHostCodeAllowed(bool allowed) noexcept override { fake().host_code_allowed = allowed; }
  nvinfer1::ICudaEngine* deserializeCudaEngine(const void* blob, size_t size) noexcept override {
    if (size >= 4 && std::memcmp(blob, "FAKE", 4) == 0) return new Engine;
    logger_.log(nvinfer1::ILogger::Severity::kERROR, "magic tag does not match");
    logger_.log(nvinfer1::ILogger::Severity::kINFO, "not of interest");
    return nullptr;
  }

 private:
  nvinfer1::ILogger& logger_;
};

}  // namespace

FakeTensorRt& FakeTensorRt::instance() {
  static FakeTensorRt made;
  return made;
}

extern "C" int32_t getInferLibVersion() noexcept { return fake().library_version; }

nvinfer1::IRuntime* nvinfer1::createInferRuntime(ILogger& logger) noexcept { return new Runtime(logger); }

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorNoDevice ? "no CUDA-capable device is detected" : "some error";
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = fake().n_devices;
  return fake().n_devices > 0 ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "a fake GPU");
  properties->major = fake().sm_major;
  properties->minor = fake().sm_minor;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** address, size_t size) {
  *address = std::malloc(size);
  if (*address == nullptr) return cudaErrorMemoryAllocation;
  ++fake().n_arrays;
  return cudaSuccess;
}
cudaError_t cudaFree(void* address) {
  std::free(address);
  --fake().n_arrays;
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return *stream = nullptr, cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind, cudaStream_t) {
  return std::memcpy(to, from, size), cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* address, int value, size_t size, cudaStream_t) {
  return std::memset(address, value, size), cudaSuccess;
}

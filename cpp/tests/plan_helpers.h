// A plan and the JSON beside it, in a folder of their own.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "helpers.h"
#include "onnx_file.h"

class TempPlan {
 public:
  // Of the small model; `change` may edit the description.
  template <typename Change>
  explicit TempPlan(Change change, const std::string& content = "FAKE plan") {
    const Model model = open_model(tiny());
    aasist_info info{};
    REQUIRE(aasist_model_info(model.get(), &info, sizeof info) == AASIST_OK);
    const auto* const bytes = reinterpret_cast<const uint8_t*>(content.data());
    nlohmann::json values{{"schema", "aasist-deploy/plan/1"},
                          {"contract", nlohmann::json::parse(info.contract_json)},
                          {"plan_sha256", aasist::sha256_of(bytes, content.size())},
                          {"plan_bytes", content.size()},
                          {"onnx_sha256", std::string(64, '0')},
                          {"runtime", "tensorrt"},
                          {"tensorrt_version", "10.13.3.9"},
                          {"sm", "9.0"},
                          {"profiles", {{1, 2, 4}, {8, 8, 16}}},
                          {"tf32", false},
                          {"build", {{"version_compatible", false}, {"hardware_compatible", false}}}};
    change(values);
    if (mkdtemp(folder_) == nullptr) throw std::runtime_error("no temporary folder");
    std::ofstream(path()) << content;
    if (!values.is_null()) std::ofstream(path() + ".json") << values;
  }
  ~TempPlan() {
    unlink(path().c_str());
    unlink((path() + ".json").c_str());
    rmdir(folder_);
  }
  TempPlan(const TempPlan&) = delete;
  TempPlan& operator=(const TempPlan&) = delete;
  std::string path() const { return std::string(folder_) + "/model.plan"; }
  aasist_status open() const {
    aasist_model* model = nullptr;
    const auto status = aasist_open(path().c_str(), nullptr, &model);
    aasist_close(model);
    return status;
  }

 private:
  char folder_[32] = "/tmp/aasist-plan-XXXXXX";
};

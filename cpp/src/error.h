// The exception inside the library; at the C border it becomes a status with a message and a fix.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include "aasist/aasist.h"

namespace aasist {

class Error : public std::runtime_error {
 public:
  Error(aasist_status status, const std::string& message, std::string fix = "")
      : std::runtime_error(message), status_(status), fix_(std::move(fix)) {}

  aasist_status status() const noexcept { return status_; }
  const std::string& fix() const noexcept { return fix_; }

 private:
  aasist_status status_;
  std::string fix_;
};

}  // namespace aasist

// What `--json` prints (docs/tool.md#json).

#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace nori::cli {

/// An object whose fields keep their order.
using Json = nlohmann::ordered_json;

/// On several lines, the last one ended. Names of files that are no UTF-8 are made to fit.
[[nodiscard]] inline std::string json_text(const Json& json) {
  constexpr int kIndent = 2;
  return json.dump(kIndent, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace nori::cli

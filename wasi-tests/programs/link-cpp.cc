// new, delete and the containers of C++, over-aligned types included. Exits with 0, or with the number of the first check
// that failed.
#include <cstdint>
#include <map>
#include <memory>
#include <rsbmallocc.h>
#include <string>
#include <vector>

struct alignas(256) Wide {
  char bytes[300];
};

static std::size_t in_use() { return rsbmallinfo().in_use; }

int main() {
  std::size_t before = in_use();
  {
    std::vector<int> numbers;
    for (int i = 0; i < 100000; i++) numbers.push_back(i);
    if (in_use() < before + 400000) return 1;
    std::map<std::string, int> byName;
    for (int i = 0; i < 1000; i++) byName["a name too long to be stored in place " + std::to_string(i)] = numbers[i];
    if (byName.size() != 1000 || byName["a name too long to be stored in place 777"] != 777) return 2;
    std::vector<std::unique_ptr<Wide>> wide;
    for (int i = 0; i < 10; i++) {
      wide.push_back(std::make_unique<Wide>());
      if (reinterpret_cast<std::uintptr_t>(wide.back().get()) % 256 != 0) return 3;
    }
    std::unique_ptr<Wide[]> array(new Wide[3]);
    if (reinterpret_cast<std::uintptr_t>(array.get()) % 256 != 0) return 4;
  }
  return in_use() <= before + 1024 ? 0 : 5;
}

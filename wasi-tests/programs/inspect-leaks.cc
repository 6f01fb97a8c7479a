// A C++ program that forgets objects in places that can be told apart, and frees the rest.

#include <memory>
#include <string>
#include <vector>

namespace shop {

struct Cache {
  std::vector<int> table;
  explicit Cache(size_t entries) : table(entries) {}
};

[[gnu::noinline]] Cache *open_cache() { return new Cache(1000); }

template <typename Item> struct Shelf {
  [[gnu::noinline]] static Item *put(const char *name) { return new Item(name); }
};

}  // namespace shop

void *volatile kept[2];

int main() {
  kept[0] = shop::open_cache();
  kept[1] = shop::Shelf<std::string>::put("a name that is too long to lie in the string itself");
  auto freed = std::make_unique<shop::Cache>(500);
  return 0;
}

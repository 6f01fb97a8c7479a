// Classes that JavaScript uses: embind allocates for both sides.
#include <emscripten/bind.h>
#include <string>
#include <vector>

class Shelf {
public:
  void add(std::string title) { titles.push_back(std::move(title)); }
  std::string joined() const {
    std::string all;
    for (const auto &title : titles) all += title + ";";
    return all;
  }

private:
  std::vector<std::string> titles;
};

EMSCRIPTEN_BINDINGS(shelf) {
  emscripten::class_<Shelf>("Shelf").constructor<>().function("add", &Shelf::add).function("joined", &Shelf::joined);
  emscripten::register_vector<std::string>("Titles");
}

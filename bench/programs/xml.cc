// pugixml parses the document on standard input, changes the tree, and saves it to a string.
#include "input.h"
#include "pugixml.cpp"
#include <string>

struct Text : pugi::xml_writer {
  std::string text;
  void write(const void *data, size_t size) override { text.append(static_cast<const char *>(data), size); }
};

static void annotate(pugi::xml_node node, int depth) {
  for (pugi::xml_node child : node.children()) {
    if (child.type() != pugi::node_element) continue;
    child.append_attribute("depth").set_value(depth);
    if (depth % 3 == 1) child.append_child("note").text().set(std::string(depth * 5, 'x').c_str());
    annotate(child, depth + 1);
  }
}

int main() {
  size_t length = read_input();
  for (int round = 0; round < 200; round++) {
    pugi::xml_document document;
    if (!document.load_buffer(input, length)) return 1;
    annotate(document, 1);
    Text text;
    document.save(text);
    pugi::xml_document again;
    if (!again.load_string(text.text.c_str())) return 1;
    auto nodes = again.select_nodes("//*[@depth > 1]");
    for (auto &found : nodes) found.node().remove_attribute("depth");
  }
}

// LodePNG encodes pictures of growing size, decodes them, and makes copies of half the size.
#include "lodepng.cpp"
#include <vector>

static std::vector<unsigned char> picture(unsigned width, unsigned height) {
  std::vector<unsigned char> pixels;
  for (unsigned y = 0; y < height; y++)
    for (unsigned x = 0; x < width; x++) {
      pixels.push_back(x * 255 / width);
      pixels.push_back(y * 255 / height);
      pixels.push_back((x ^ y) & 64 ? 200 : 30);
      pixels.push_back(255);
    }
  return pixels;
}

int main() {
  std::vector<std::vector<unsigned char>> kept;
  for (unsigned i = 0; i < 60; i++) {
    unsigned width = 40 + i * 37 % 400, height = 30 + i * 53 % 300;
    std::vector<unsigned char> png, pixels;
    if (lodepng::encode(png, picture(width, height), width, height)) return 1;
    unsigned w, h;
    if (lodepng::decode(pixels, w, h, png)) return 1;
    std::vector<unsigned char> half((w / 2) * (h / 2) * 4);
    for (size_t p = 0; p < half.size(); p++) half[p] = pixels[p * 2 % pixels.size()];
    std::vector<unsigned char> small;
    if (lodepng::encode(small, half, w / 2, h / 2)) return 1;
    kept.push_back(small);
    if (kept.size() > 12) kept.erase(kept.begin());
  }
}

// cJSON parses the document on standard input into a tree, prints it, copies a part, parses it again and deletes all.
#include "cJSON.h"
#include "input.h"

int main(void) {
  read_input();
  cJSON *document = cJSON_Parse(input);
  if (!document) return 1;
  char *text = cJSON_Print(document);
  cJSON *copy = cJSON_Duplicate(cJSON_GetArrayItem(document, 0) ? cJSON_GetArrayItem(document, 0) : document, 1);
  cJSON_Delete(copy);
  cJSON_Delete(document);
  document = cJSON_Parse(text);
  cJSON_free(text);
  text = cJSON_PrintUnformatted(document);
  cJSON_free(text);
  cJSON_Delete(document);
}

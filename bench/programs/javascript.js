"use strict";
// What scripts do, in the JavaScript of 2009: objects, closures, strings, regular expressions, JSON, sorting.
function Point(x, y) {
  this.x = x;
  this.y = y;
}
Point.prototype.plus = function (other) {
  return new Point(this.x + other.x, this.y + other.y);
};

var sum = new Point(0, 0);
for (var i = 0; i < 6000; i++) sum = sum.plus(new Point(i, i / 2));

var people = [];
for (i = 0; i < 1200; i++)
  people.push({
    name: "person " + ((i * 7919) % 1200),
    tags: ["a" + (i % 7), "b" + (i % 11)],
    age: i % 90,
    friends: [],
  });
people.forEach(function (person, index) {
  person.friends = people.slice(index % 50, (index % 50) + 4).map(function (friend) {
    return friend.name;
  });
});
people.sort(function (a, b) {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
});
var text = JSON.stringify(people);
var copies = JSON.parse(text);
var byTag = {};
copies.forEach(function (person) {
  person.tags.forEach(function (tag) {
    (byTag[tag] = byTag[tag] || []).push(person.name.toUpperCase());
  });
});

var words = {};
text.replace(/[a-z]+ \d+/g, function (word) {
  words[word] = (words[word] || 0) + 1;
  return word;
});
var lines = Object.keys(words).map(function (word) {
  return word.split(" ").reverse().join("-") + ": " + words[word];
});
lines.sort();

function tree(depth) {
  return depth === 0 ? null : { left: tree(depth - 1), right: tree(depth - 1), label: "node" + depth };
}
function size(node) {
  return node ? 1 + size(node.left) + size(node.right) : 0;
}
var nodes = 0;
for (i = 0; i < 8; i++) nodes += size(tree(10));

function adder(n) {
  return function (m) {
    return n + m;
  };
}
var adders = [];
for (i = 0; i < 3000; i++) adders.push(adder(i));
var total = adders.reduce(function (value, add) {
  return add(value);
}, 0);
if (total === 0 || nodes === 0 || lines.length === 0) throw new Error("wrong");

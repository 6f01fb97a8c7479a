-- What scripts do: objects, closures, strings, tables that grow, sorting, a little interpreter of its own.
local Account = {}
Account.__index = Account
function Account.new(name, balance) return setmetatable({ name = name, balance = balance, log = {} }, Account) end
function Account:deposit(sum) self.balance = self.balance + sum; self.log[#self.log + 1] = { kind = "deposit", sum = sum } end

local accounts = {}
for i = 1, 1500 do
  accounts[i] = Account.new("account " .. i, i * 10 % 777)
  for j = 1, i % 9 do accounts[i]:deposit(j) end
end
table.sort(accounts, function(a, b) return a.balance < b.balance end)

local words, count = {}, 0
local text = string.rep("the quick brown fox jumps over the lazy dog while seven wizards brew jinxed elixir ", 60)
for round = 1, 4 do
  for word in text:gmatch("%a+") do
    local key = word .. (count % 211)
    words[key] = (words[key] or 0) + 1
    count = count + 1
  end
end
local lines = {}
for word, n in pairs(words) do lines[#lines + 1] = ("%-20s %5d"):format(word:upper(), n) end
table.sort(lines)
local report = table.concat(lines, "\n"):gsub("%d+", function(d) return "<" .. d .. ">" end)

local function parse(source)
  local position = 1
  local expression
  local function atom()
    local number, next = source:match("^%s*(%d+)%s*()", position)
    if number then position = next; return { kind = "number", value = tonumber(number) } end
    position = source:match("^%s*%(()", position)
    local inner = expression()
    position = source:match("^%s*%)%s*()", position)
    return inner
  end
  local function binary(lower, operators)
    return function()
      local left = lower()
      while true do
        local operator, next = source:match("^%s*([-+*/])%s*()", position)
        if not operator or not operators:find(operator, 1, true) then return left end
        position = next
        left = { kind = "binary", operator = operator, left = left, right = lower() }
      end
    end
  end
  expression = binary(binary(atom, "*/"), "+-")
  return expression()
end
local function compile(node)
  if node.kind == "number" then local value = node.value; return function() return value end end
  local left, right = compile(node.left), compile(node.right)
  if node.operator == "+" then return function() return left() + right() end end
  if node.operator == "-" then return function() return left() - right() end end
  if node.operator == "*" then return function() return left() * right() end end
  return function() return left() / right() end
end
local total = 0
for i = 1, 900 do total = total + compile(parse(("(%d + 2) * (%d - %d) + 4 * (1 + %d)"):format(i, i * 3, i, i % 7)))() end

local matrix = {}
for i = 1, 120 do
  matrix[i] = {}
  for j = 1, 120 do matrix[i][j] = i * j / 3 end
end
local queue, head = {}, 1
for i = 1, 8000 do
  queue[#queue + 1] = { i, tostring(i) .. "/" .. i * 2 }
  if i % 3 == 0 then queue[head] = nil; head = head + 1 end
end
assert(#report > 0 and total > 0)

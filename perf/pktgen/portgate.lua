-- Drives Pktgen-DPDK 23.03 or 23.06: port 0 sends to a gateway what port 1 receives from it. See README.md.
--
-- Settings come from environment variables, because pktgen hands no arguments to a script. Each run prints a line
-- "portgate-pktgen {...}", which `perf import-pktgen` turns into the lab's records.

local SEND, RECEIVE = "0", "1"

-- Ports of one client address. A prime: all fields of pktgen's range step together, so addresses and ports pair up
-- in every way only if their counts have no divisor in common.
local CLIENT_PORTS = 59999
local FIRST_PORT = 1024

local function fail(text)
    print("portgate-pktgen: " .. text)
    pktgen.quit()
    os.exit(2)
end

local function setting(name, default)
    local value = os.getenv("PORTGATE_" .. name) or default
    if value == nil then
        fail("PORTGATE_" .. name .. " is not set")
    end
    return value
end

local function number(name, default)
    local value = tonumber(setting(name, default))
    if value == nil then
        fail("PORTGATE_" .. name .. " is no number")
    end
    return value
end

local function numbers(name, default)
    local list = {}
    for word in setting(name, default):gmatch("%S+") do
        local value = tonumber(word)
        if value == nil then
            fail("PORTGATE_" .. name .. ": " .. word .. " is no number")
        end
        list[#list + 1] = value
    end
    return list
end

local SCENARIO = setting("SCENARIO", "udp")
local SIZES = numbers("SIZES", "64 128 256 512 1024 1280 1518")
local RATES = numbers("RATES", "100")
local SECONDS = number("SECONDS", 10)
local FLOWS = number("FLOWS", 1000)
local COUNT = number("COUNT", FLOWS)
local TRIES = number("TRIES", 2)
local RESOLUTION = number("RESOLUTION", 1)
local GATEWAY_MAC = setting("GATEWAY_MAC")
local SERVICE = setting("SERVICE", "203.0.113.10")
local SERVICE_PORT = number("SERVICE_PORT", 30080)
local ROUTER = setting("ROUTER", "203.0.113.1")
local NODE = setting("NODE", "100.64.0.10")
local INSIDE = setting("INSIDE", "100.64.0.1")
local CLIENTS = setting("CLIENTS", "198.18.0.1")
local FOLDER = setting("FOLDER", ".")

-- Words and numbers alone: no escapes needed.
local function json(fields)
    local parts = {}
    for _, field in ipairs(fields) do
        local name, value = field[1], field[2]
        if value ~= nil then
            local text = type(value) == "number" and string.format("%.10g", value)
                or '"' .. tostring(value):gsub('[^%w%._%-%%/: ]', "") .. '"'
            parts[#parts + 1] = '"' .. name .. '":' .. text
        end
    end
    return "{" .. table.concat(parts, ",") .. "}"
end

local function address(text, add)
    local a, b, c, d = text:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
    if a == nil then
        fail(text .. " is no IPv4 address")
    end
    local bits = ((a * 256 + b) * 256 + c) * 256 + d + add
    local parts = {}
    for shift = 3, 0, -1 do
        parts[#parts + 1] = math.floor(bits / 256 ^ shift) % 256
    end
    return string.format("%d.%d.%d.%d", table.unpack(parts))
end

-- One field of the range: from, to, step.
local function range(field, first, last, step)
    local set = pktgen.range[field]
    set(SEND, "start", first)
    set(SEND, "min", first)
    set(SEND, "max", last)
    set(SEND, "inc", step)
end

-- Waits, and lets the node ask for the gateway's address all the while: a gateway learns who asks, and need not ask
-- itself. (pktgen would answer, but answers lie in a buffer until there are 64 of them, as these requests do.)
local function ask(milliseconds)
    for _ = 1, math.ceil(milliseconds / 10) do
        pktgen.send_arp(RECEIVE, "request")
        pktgen.delay(10)
    end
end

-- Asks until the gateway has answered.
local function introduce()
    local function heard() return pktgen.pktStats("all")[tonumber(RECEIVE)].arp_pkts end
    local before = heard()
    for _ = 1, 100 do
        ask(300)
        if heard() > before then
            return
        end
    end
    error("the gateway does not answer ARP for " .. INSIDE .. " on port " .. RECEIVE)
end

local function prepare(size)
    -- The ports stand for the router outside and for the node inside.
    pktgen.set_ipaddr(SEND, "src", ROUTER .. "/24")
    pktgen.set_ipaddr(SEND, "dst", SERVICE)
    pktgen.set_ipaddr(RECEIVE, "src", NODE .. "/24")
    pktgen.set_ipaddr(RECEIVE, "dst", INSIDE)
    pktgen.process("all", "on")
    -- Frames that measure latency are made of the single packet: they are to be of the service as well.
    pktgen.set_mac(SEND, "dst", GATEWAY_MAC)
    pktgen.set_proto("all", "udp")
    pktgen.set(SEND, "sport", FIRST_PORT)
    pktgen.set(SEND, "dport", SERVICE_PORT)
    pktgen.set(SEND, "size", size)
    local ports = math.min(FLOWS, CLIENT_PORTS)
    local addresses = math.ceil(FLOWS / CLIENT_PORTS)
    range("dst_mac", GATEWAY_MAC, GATEWAY_MAC, "00:00:00:00:00:00")
    range("src_ip", CLIENTS, address(CLIENTS, addresses - 1), addresses > 1 and "0.0.0.1" or "0.0.0.0")
    range("dst_ip", SERVICE, SERVICE, "0.0.0.0")
    range("src_port", FIRST_PORT, FIRST_PORT + ports - 1, 1)
    range("dst_port", SERVICE_PORT, SERVICE_PORT, 0)
    range("pkt_size", size, size, 0)
    range("ttl", 64, 64, 0)
    pktgen.range.ip_proto(SEND, SCENARIO == "flood" and "tcp" or "udp")
    if SCENARIO == "flood" then
        -- Lua has no word for TCP flags, the command line has.
        pktgen.load(FOLDER .. "/syn.pkt")
    end
    pktgen.set_range(SEND, "on")
end

-- Counters of both ports that must not move any more.
local function counters()
    local stats, packets = pktgen.portStats("all", "port"), pktgen.pktStats("all")
    local send, receive = tonumber(SEND), tonumber(RECEIVE)
    return {
        sent = stats[send].opackets,
        received = stats[receive].ipackets - packets[receive].arp_pkts,
        failed = packets[send].tx_failed,
        missed = stats[receive].imissed + stats[receive].rx_nombuf,
    }
end

local function rest()
    local before
    for _ = 1, 20 do
        pktgen.delay(500)
        local now = counters()
        if before and now.sent == before.sent and now.received == before.received then
            return now
        end
        before = now
    end
    return before
end

-- Sends for so long, or so many, at this part of the link's speed, and returns what was counted.
local function trial(rate, seconds, count)
    pktgen.set(SEND, "rate", rate)
    pktgen.set(SEND, "count", count)
    introduce()
    local before = rest()
    pktgen.start(SEND)
    if count > 0 then
        for _ = 1, 600 do
            pktgen.delay(100)
            if pktgen.isSending(SEND)[tonumber(SEND)] == "n" then
                break
            end
        end
    else
        ask(seconds * 1000)
    end
    pktgen.stop(SEND)
    local after = rest()
    local result = { rate = rate, seconds = seconds }
    for name, value in pairs(after) do
        result[name] = value - before[name]
    end
    result.lost = result.sent - result.received
    result.loss = result.sent > 0 and result.lost / result.sent or 1
    return result
end

local function tell(kind, size, result, more)
    local fields = {
        { "kind", kind }, { "scenario", SCENARIO }, { "size", size }, { "flows", FLOWS },
        { "rate_percent", result.rate }, { "seconds", result.seconds }, { "sent", result.sent },
        { "received", result.received }, { "lost", result.lost }, { "tx_failed", result.failed },
        { "missed", result.missed },
    }
    for _, field in ipairs(more or {}) do
        fields[#fields + 1] = field
    end
    print("portgate-pktgen " .. json(fields))
end

-- Latencies of sampled frames, in nanoseconds, one a line, are written to a file by pktgen itself.
local function sampled(size, rate)
    local path = os.getenv("PORTGATE_SAMPLES")
    if path == nil then
        return trial(rate, SECONDS, 0), nil
    end
    path = string.format("%s-%d-%g.txt", path, size, rate)
    pktgen.latency("all", "on")
    -- No more than 50,108 samples are taken.
    pktgen.latsampler_params("all", "simple", 50000, 10000, path)
    pktgen.latsampler(RECEIVE, "on")
    local result = trial(rate, SECONDS, 0)
    local latency = pktgen.pktStats("all")[tonumber(RECEIVE)].latency
    pktgen.latsampler(RECEIVE, "off")
    pktgen.latency("all", "off")
    return result, {
        { "samples", path }, { "latency_count", latency.num_pkts }, { "latency_min_us", latency.min_us },
        { "latency_max_us", latency.max_us },
    }
end

local function rates(size)
    -- Makes the flows, uncounted.
    trial(math.min(1, RATES[1]), 0, FLOWS)
    for _, rate in ipairs(RATES) do
        local result, more = sampled(size, rate)
        tell("run", size, result, more)
    end
end

-- The highest rate that loses no more than `most`, by halving (RFC 2544, 26.1); a rate fails when it fails TRIES times.
local function highest(size, most, low)
    local high, found = 100, nil
    local function holds(rate)
        for _ = 1, TRIES do
            local result = trial(rate, SECONDS, 0)
            tell("trial", size, result)
            if result.loss <= most then
                found = result
                return true
            end
        end
        return false
    end
    if holds(high) then
        return found
    end
    while high - low > high * RESOLUTION / 100 and high > 0.01 do
        local middle = (low + high) / 2
        if holds(middle) then
            low = middle
        else
            high = middle
        end
    end
    return found
end

local function search(size)
    trial(1, 0, FLOWS)
    local none = { rate = 0, seconds = SECONDS, sent = 0, received = 0, lost = 0, failed = 0, missed = 0 }
    local lossless = highest(size, 0, 0) or none
    tell("throughput", size, lossless)
    tell("throughput_at_0_1_percent", size, highest(size, 0.001, lossless.rate) or lossless)
end

local run = {
    udp = rates,
    search = search,
    -- Each frame is the first of a flow: as many as there are.
    new = function(size) tell("run", size, trial(RATES[1], 0, COUNT)) end,
    -- SYNs that nothing answers: what comes back goes to port 0.
    flood = function(size) tell("run", size, trial(RATES[1], SECONDS, 0)) end,
}
if run[SCENARIO] == nil then
    fail("PORTGATE_SCENARIO is udp, search, new or flood")
end
-- Without this a mistake would leave pktgen running for ever.
local ended, why = pcall(function()
    pktgen.screen("off")
    print("portgate-pktgen " .. json({
        { "kind", "start" }, { "pktgen", pktgen.info and pktgen.info.Pktgen_Version },
        { "dpdk", pktgen.info and pktgen.info.DPDK_Version }, { "time", os.time() },
    }))
    for _, size in ipairs(SIZES) do
        prepare(size)
        run[SCENARIO](size)
    end
    print("portgate-pktgen " .. json({ { "kind", "end" } }))
end)
if not ended then
    print("portgate-pktgen: " .. tostring(why))
end
pktgen.quit()

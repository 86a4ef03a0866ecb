'use strict';
// Asks for the document every two seconds and shows it. Text from the cluster becomes text nodes, never markup.

const PERIOD = 2000, PATIENCE = 10000, HISTORY = 150;
const $ = id => document.getElementById(id);
let last = null;              // the document before
let heard = Date.now();       // when a document last came
const history = [];           // frames received a second

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function drawn(name, attributes, text) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// A number as people read it: three digits and a unit.
function short(number, unit = '') {
  if (number === null || number === undefined) return '–';
  const steps = [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']];
  for (const [size, name] of steps) {
    if (Math.abs(number) >= size) return (number / size).toPrecision(3) + ' ' + name + unit;
  }
  const plain = Number.isInteger(number) ? String(number) : number.toPrecision(3);
  return unit ? plain + ' ' + unit : plain;
}

function seconds(value) {
  if (value >= 1) return value.toPrecision(3) + ' s';
  if (value >= 1e-3) return (value * 1e3).toPrecision(3) + ' ms';
  return (value * 1e6).toPrecision(3) + ' µs';
}

// Growth a second of a counter; null when it cannot be told: at first, or when it began anew.
function rate(now, before, elapsed) {
  if (before === undefined || elapsed <= 0 || now < before) return null;
  return (now - before) / elapsed;
}

// Replaces a table: headings that begin with > are of numbers; a cell is text, or an element.
function table(id, headings, rows, nothing) {
  const head = element('tr');
  const isNumber = headings.map(heading => heading.startsWith('>'));
  headings.forEach((heading, at) =>
    head.append(element('th', isNumber[at] ? heading.slice(1) : heading, isNumber[at] ? 'number' : '')));
  const body = element('tbody');
  for (const row of rows) {
    const line = element('tr');
    row.forEach((cell, at) => {
      const place = element('td', undefined, isNumber[at] ? 'number' : '');
      place.append(cell instanceof Node ? cell : String(cell));
      line.append(place);
    });
    body.append(line);
  }
  if (!rows.length) {
    const line = element('tr'), place = element('td', nothing);
    place.colSpan = headings.length;
    line.append(place);
    body.append(line);
  }
  const top = element('thead');
  top.append(head);
  $(id).replaceChildren(top, body);
}

function tiles(pairs) {
  $('tiles').replaceChildren(...pairs.map(([name, value, kind]) => {
    const tile = element('div', name);
    tile.append(element('b', value, kind));
    return tile;
  }));
}

function state(text, isGood) {
  $('state').textContent = text;
  $('state').className = isGood ? 'good' : 'bad';
  document.title = isGood ? 'Portgate' : '! Portgate';
}

function showState(shown) {
  const gateway = shown.gateway;
  if (!gateway) return state(shown.trouble || 'there is no region', false);
  if (!gateway.running) {
    return state('no data plane runs: nothing was heard of it for ' + seconds(gateway.silent_seconds), false);
  }
  if (!shown.synced) return state('the control plane waits for the first list of its source', false);
  if (gateway.as_wanted === false) return state('what is installed is not yet what the cluster says', false);
  state('version ' + shown.version + ', generation ' + gateway.generation + ' installed, as wanted', true);
}

function addresses(list, all) {
  const lines = element('div');
  for (const text of list) lines.append(element('div', text));
  if (all > list.length) lines.append(element('div', 'and ' + (all - list.length) + ' more'));
  return lines;
}

function endpoints(service) {
  const lines = element('div');
  for (const endpoint of service.endpoints) {
    const more = endpoint.takes_new ? '' : ', takes no new flows';
    const text = endpoint.address + ' (' + endpoint.open + ' open' + more + ')';
    lines.append(element('div', text, endpoint.takes_new ? '' : 'kept'));
  }
  const more = service.all_endpoints - service.endpoints.length;
  if (more > 0) lines.append(element('div', 'and ' + more + ' more'));
  if (!service.all_endpoints) lines.append(element('span', 'none', 'bad'));
  return lines;
}

const nameOf = service =>
  service.namespace + '/' + service.name + (service.port ? ':' + service.port : '') + ' ' + service.protocol;

function showServices(gateway, before, elapsed) {
  const earlier = new Map();
  for (const service of before ? before.services : []) earlier.set(nameOf(service), service.counters);
  const rows = gateway.services.map(service => {
    const now = service.counters, was = earlier.get(nameOf(service)) || {};
    const grown = name => now ? rate(now[name], was[name], elapsed) : null;
    const bytes = grown('bytes');
    const refused = now ? element('span', short(now.refused), grown('refused') > 0 ? 'bad' : '') : '–';
    return [
      nameOf(service),
      addresses(service.frontends.map(one => one.type + ' ' + one.address), service.all_frontends),
      endpoints(service),
      short(grown('frames')),
      short(bytes === null ? null : 8 * bytes, 'bit/s'),
      short(grown('flows')),
      short(service.open),
      refused,
    ];
  });
  const headings = ['Service', 'Addresses', 'Endpoints', '>Frames/s', '>Rate', '>New flows/s', '>Open flows', '>Refused'];
  table('services', headings, rows, 'none');
  const more = gateway.matching - gateway.services.length;
  $('matching').textContent = gateway.matching + ' of ' + gateway.service_ports + ' service ports match' +
    (more > 0 ? '; shown are those with most open flows' : '') + '.';
}

function showDrops(gateway, before, elapsed) {
  const was = before ? before.drops : {};
  const rows = Object.entries(gateway.drops).sort((one, other) => other[1] - one[1]).map(([reason, count]) => {
    const grown = before ? rate(count, was[reason] || 0, elapsed) : null;
    return [reason, short(count), element('span', short(grown), grown > 0 ? 'bad' : '')];
  });
  table('drops', ['Reason', '>Frames', '>a second'], rows, 'none');
}

function showLinks(gateway, before, elapsed) {
  const rows = gateway.links.map(link => {
    const was = (before ? before.links : []).find(other => other.name === link.name) || {};
    const bits = name => {
      const grown = rate(link[name], was[name], elapsed);
      return short(grown === null ? null : 8 * grown, 'bit/s');
    };
    const lost = link.dropped + link.missed;
    return [
      link.name, link.device, element('span', link.up ? 'up' : 'down', link.up ? 'good' : 'bad'),
      short(rate(link.rx_frames, was.rx_frames, elapsed)), bits('rx_bytes'),
      short(rate(link.tx_frames, was.tx_frames, elapsed)), bits('tx_bytes'), short(lost),
    ];
  });
  const headings = ['Link', 'Device', 'State', '>Rx/s', '>Rx', '>Tx/s', '>Tx', '>Lost'];
  table('links', headings, rows, 'none');
}

function showTables(gateway) {
  const rows = gateway.tables.map(one => {
    const all = Object.values(one.flows).reduce((sum, flows) => sum + flows, 0);
    const fill = 100 * all / one.made_for;
    const oldest = one.oldest_seconds === null ? '–' : one.oldest_seconds + ' s';
    return [one.family, short(all), short(one.flows['half-open']), short(one.flows.established),
      element('span', fill.toFixed(1) + ' %', fill > 80 ? 'bad' : ''), oldest];
  });
  const headings = ['Family', '>Flows', '>Half-open', '>Established', '>Fill', '>Longest idle'];
  table('tables', headings, rows, 'none');
  $('counted').textContent = 'Counted ' + seconds(gateway.counted_seconds_ago) + ' ago.';
}

function showHistory() {
  const most = Math.max(1, ...history);
  const point = (value, at) => (at * 600 / (HISTORY - 1)).toFixed(1) + ',' + (115 - 105 * value / most).toFixed(1);
  $('history').replaceChildren(
    drawn('line', {x1: 0, y1: 115, x2: 600, y2: 115, class: 'grid'}),
    drawn('polyline', {points: history.map(point).join(' '), class: 'one'}));
  $('most').textContent = history.length ? 'Most: ' + short(most) + ' a second.' : '';
}

// Latency by percentile: each step to the right is a tenth of what is left; the height is logarithmic, too, with a line
// for each of these times.
function showCurves(id, curves, lines) {
  const least = lines[0], low = Math.log10(least), high = Math.log10(lines[lines.length - 1]);
  const across = percentile => 40 + 540 * Math.min(4, Math.log10(100 / (100 - Math.min(percentile, 99.99)))) / 4;
  const up = value => 175 - 165 * Math.min(1, (Math.log10(Math.max(value, least)) - low) / (high - low));
  const parts = [];
  for (const value of lines) {
    parts.push(drawn('line', {x1: 40, x2: 580, y1: up(value), y2: up(value), class: 'grid'}),
      drawn('text', {x: 0, y: up(value) + 4}, seconds(value).replace(/\.0+ /, ' ')));
  }
  for (const percentile of [0, 90, 99, 99.9, 99.99]) {
    const anchor = percentile === 99.99 ? 'end' : 'middle';
    parts.push(drawn('text', {x: across(percentile), y: 195, 'text-anchor': anchor}, percentile + ' %'));
  }
  const legend = [];
  curves.forEach((one, at) => {
    const points = one.points.map(([percentile, value]) => across(percentile).toFixed(1) + ',' + up(value).toFixed(1));
    parts.push(drawn('polyline', {points: points.join(' '), class: ['one', 'two', 'three', 'four'][at % 4]}));
    const value = wanted => (one.points.find(([percentile]) => percentile === wanted) || [])[1];
    legend.push(one.name + (one.count
      ? ': ' + one.count + ' timed, half within ' + seconds(value(50)) + ', 99 % within ' + seconds(value(99))
      : ': none yet'));
  });
  $(id).replaceChildren(...parts);
  $(id + '-legend').textContent = legend.join('; ') + '.';
}

function show(shown) {
  showState(shown);
  showCurves('updates', shown.latency, [1e-5, 1e-3, 1e-1, 10]);
  const gateway = shown.gateway;
  if (!gateway) return;
  const before = last && last.gateway;
  const elapsed = last ? (shown.at - last.at) / 1000 : 0;
  const received = before ? rate(gateway.totals.received, before.totals.received, elapsed) : null;
  if (received !== null) {
    history.push(received);
    if (history.length > HISTORY) history.shift();
  }
  const flows = gateway.tables.flatMap(one => Object.values(one.flows)).reduce((sum, each) => sum + each, 0);
  const dropped = document => Object.values(document.drops).reduce((sum, count) => sum + count, 0);
  const drops = before ? rate(dropped(gateway), dropped(before), elapsed) : null;
  tiles([
    ['frames received a second', short(received)],
    ['new flows a second', short(before ? rate(gateway.totals.flows_created, before.totals.flows_created, elapsed) : null)],
    ['open flows', short(flows)],
    ['frames dropped a second', short(drops), drops > 0 ? 'bad' : ''],
    ['service ports', short(gateway.service_ports)],
  ]);
  showHistory();
  showCurves('bursts', gateway.bursts, [1e-6, 1e-5, 1e-4, 1e-3, 1e-2]);
  showServices(gateway, before, elapsed);
  showDrops(gateway, before, elapsed);
  showLinks(gateway, before, elapsed);
  showTables(gateway);
  last = shown;
}

async function ask() {
  try {
    const filter = encodeURIComponent($('filter').value.trim());
    const answer = await fetch('status.json?service=' + filter, {signal: AbortSignal.timeout(PATIENCE)});
    if (!answer.ok) throw new Error(await answer.text());
    show(await answer.json());
    heard = Date.now();
  } catch (error) {
    const since = Math.round((Date.now() - heard) / 1000);
    state('no answer of the control plane for ' + since + ' s: ' + error.message, false);
  }
}

async function follow() {
  for (;;) {
    if (!document.hidden) await ask();
    await new Promise(done => setTimeout(done, PERIOD));
  }
}

$('search').addEventListener('submit', event => { event.preventDefault(); ask(); });
$('filter').addEventListener('input', () => ask());
follow();

// The live page: asks the agent for its status every second and shows how releases spread over the site.
//
// Plain JavaScript without a build step, served from the binary under a strict content security policy: nothing is
// loaded from elsewhere, no HTML is ever made from text (names come from certificates and gossip), and every row is
// kept and updated in place, so that a site of 200 clients neither flickers nor loses the reader's place.

const STATUS_URL = 'api/v1/status';
const POLL_MS = 1000;
// An agent that does not answer is asked less often, but often enough that the page is back soon.
const POLL_FAILED_MAX_MS = 5000;
const ANSWER_MAX_MS = 5000;
// Rates are averaged over this time: gossip reaches us about once a second, in bursts.
const RATE_WINDOW_MS = 6000;
const SPARK_SAMPLES = 120;
// A client that vanished is still shown for a while: an administrator wants to see who went away.
const GONE_SHOWN_MS = 10 * 60 * 1000;
const GONE_MAX = 64;

const SOURCES = { w: 'wan', l: 'lan', t: 'trimmed', '.': 'missing' };
const CELLS = 128;
// Rows of a strip's canvas that a cell fills, so that a source is told by its height as well as by its colour.
const HEIGHTS = { wan: 20, lan: 14, trimmed: 8, missing: 2 };
const STRIP_ROWS = 20;

const $ = (id) => document.getElementById(id);

// ---------------------------------------------------------------------------------------------------------------
// Polling

let failedSince = null;
let failures = 0;
let lastAnswer = null;
let programVersion = null;
let polling = false;
let timer = null;

async function poll() {
  clearTimeout(timer);
  // A page nobody looks at asks nothing; it is up to date again as soon as somebody does.
  if (polling || document.hidden) return;
  polling = true;
  try {
    const status = await fetchStatus();
    failures = 0;
    failedSince = null;
    lastAnswer = new Date();
    showStatus(status);
  } catch (error) {
    failures += 1;
    failedSince ??= new Date();
    if (!(error instanceof Unanswered)) console.error(error);
    showFailure(error);
  } finally {
    polling = false;
  }
  timer = setTimeout(poll, Math.min(POLL_MS * Math.max(1, failures), POLL_FAILED_MAX_MS));
}

/** Says in words why there is no status. */
class Unanswered extends Error {}

async function fetchStatus() {
  let response;
  try {
    response = await fetch(STATUS_URL, { cache: 'no-store', signal: AbortSignal.timeout(ANSWER_MAX_MS) });
  } catch (error) {
    throw new Unanswered(error.name === 'TimeoutError'
      ? `The agent has not answered within ${ANSWER_MAX_MS / 1000} s. It is overloaded or hangs.`
      : 'The agent does not answer. It has stopped, or the way to it is cut.');
  }
  if (!response.ok) throw new Unanswered(`The agent answers with an error (HTTP ${response.status}).`);
  const status = await response.json().catch(() => null);
  if (typeof status?.node !== 'object' || status.node === null) {
    throw new Unanswered('The answer is not the status of a branchmesh agent. Something else listens at this address.');
  }
  return status;
}

function showFailure(error) {
  const what = error instanceof Unanswered ? error.message : 'This page failed on the agent’s answer.';
  const shown = lastAnswer ? ` Shown is what it said at ${clock(lastAnswer)}.` : '';
  // The text is the same at each further attempt, so that a screen reader says it once.
  setText($('banner'), `${what} Since ${clock(failedSince)}; trying again every few seconds.${shown}`);
  $('banner').hidden = false;
  document.body.classList.add('stale');
  document.title = `not answering · ${$('site').textContent} · branchmesh`;
}

// ---------------------------------------------------------------------------------------------------------------
// The whole page

let current = null;

function showStatus(status) {
  programVersion ??= status.node.version;
  // The agent was updated under us: its page may have changed with it.
  if (status.node.version !== programVersion) return location.reload();

  current = { ...status, site: status.site ?? {}, releases: status.releases ?? [], peers: status.peers ?? [] };
  current.nodes = withGone(current.site.nodes ?? []);
  $('banner').hidden = true;
  document.body.classList.remove('stale');
  showHead(current);
  showReleases(current);
  if ($('members-section').open) showLinks(current);
  setText($('links'), linksSummary(current));
}

const known = new Map();

/** The members of now, and those that were here and vanished, in an order that stays. */
function withGone(nodes) {
  const now = Date.now();
  for (const entry of known.values()) entry.here = false;
  for (const node of nodes) known.set(node.peer_id, { node, seen: now, here: true });
  const gone = [...known].filter(([, entry]) => !entry.here).sort(([, a], [, b]) => b.seen - a.seen);
  gone.forEach(([id, entry], at) => {
    if (at >= GONE_MAX || now - entry.seen > GONE_SHOWN_MS) known.delete(id);
  });
  return [...known.values()]
    .map(({ node, here, seen }) => (here ? node : { ...node, gone: seen, connected: false, fetching: false }))
    .sort((a, b) => byName(a.name, b.name) || byName(a.peer_id, b.peer_id));
}

const { compare: byName } = new Intl.Collator('en', { numeric: true });

function showHead({ node, site, nodes, peers }) {
  const here = nodes.filter((member) => !member.gone);
  const names = (site.fetchers ?? []).map((id) => nodes.find((member) => member.peer_id === id)?.name ?? shortId(id));
  setText($('site'), node.site);
  setText($('node'), `seen from ${node.name} (${node.role}), branchmesh ${node.version}, up ${duration(node.uptime_seconds)}`);
  setText($('members'), String(site.members ?? here.length));
  setText($('members-note'), `${peers.filter((peer) => peer.state === 'connected').length} linked to this node`);
  setText($('fetchers'), names.length === 0 ? 'nobody' : names.join(', '));
  $('fetchers').title = names.join(', ');
  setText($('line'), node.line?.words ?? 'who may use the WAN now');
  setText($('amplification'), site.amplification == null ? '–' : site.amplification.toFixed(3));
  setText($('amplification-note'), amplificationNote(site));
  const wanRate = siteRate('wan', here, (member) => member.wan_bytes ?? 0);
  const lanRate = siteRate('lan', here, (member) => sum(member.releases ?? [], (release) => release.bytes.lan ?? 0));
  setText($('wan-rate'), rate(wanRate));
  setText($('lan-rate'), rate(lanRate));
  spark($('wan-spark'), wanRate);
  spark($('lan-spark'), lanRate);
  showProblems(node.problems ?? []);
  document.title = `${siteShare(here)}${node.site} · branchmesh`;
}

function amplificationNote({ wan_bytes: wan, unique_bytes: unique }) {
  if (!wan && !unique) return 'nothing crossed the WAN';
  return `${bytes(wan)} crossed, ${bytes(unique)} lacked`;
}

/** What the browser's tab says of the newest release. */
function siteShare(nodes) {
  const [newest] = current.releases;
  if (!newest) return '';
  const shares = nodes.flatMap((node) => node.releases?.filter((release) => sameRelease(release, newest)) ?? []);
  const total = sum(shares, (release) => release.bytes.total);
  return total === 0 ? '' : `${percent(sum(shares, (release) => release.bytes.have), total)} `;
}

const flows = new Map();

/**
 * Bytes per second of all members together, from their own counters: what each has more than a moment ago. A member
 * that comes, goes or starts again does not count as traffic.
 */
function siteRate(kind, members, counterOf) {
  const flow = flows.get(kind) ?? { last: new Map(), moved: 0, samples: [] };
  flows.set(kind, flow);
  const next = new Map(members.map((member) => [member.peer_id, counterOf(member)]));
  for (const [id, count] of next) flow.moved += Math.max(0, count - (flow.last.get(id) ?? count));
  flow.last = next;
  addSample(flow.samples, { at: performance.now(), moved: flow.moved });
  return measuredRate(flow);
}

function showProblems(problems) {
  const list = $('problems');
  while (list.children.length > problems.length) list.lastElementChild.remove();
  problems.forEach((problem, at) => {
    const item = list.children[at] ?? list.appendChild(document.createElement('li'));
    setText(item, problem);
  });
}

const sparks = new Map();

function spark(svg, value) {
  const samples = sparks.get(svg) ?? [];
  samples.push(value ?? 0);
  if (samples.length > SPARK_SAMPLES) samples.shift();
  sparks.set(svg, samples);
  const top = Math.max(...samples, 1);
  const left = SPARK_SAMPLES - samples.length;
  const points = samples.map((sample, at) => `${left + at},${(23 - 22 * sample / top).toFixed(1)}`);
  svg.firstElementChild.setAttribute('points', points.join(' '));
}

// ---------------------------------------------------------------------------------------------------------------
// Releases

const sections = new Map();

function showReleases({ nodes, releases }) {
  const wanted = releasesOf(nodes, releases);
  for (const [key, section] of sections) {
    if (wanted.has(key)) continue;
    section.root.remove();
    sections.delete(key);
  }
  let previous = null;
  for (const [key, { image, release, own }] of wanted) {
    let section = sections.get(key);
    if (!section) {
      section = newSection(image, release);
      sections.set(key, section);
    }
    keepOrder($('releases'), section.root, previous);
    previous = section.root;
    showRelease(section, own, nodes);
  }
  $('empty').hidden = wanted.size > 0;
  setText($('empty'), 'No release is known on this site yet. The fetcher asks the origins for what is published; '
    + 'if this stays so, `branchmesh status` on the fetcher says why.');
}

/** Every release that this node or a member speaks of: this node's own order first, it is newest first. */
function releasesOf(nodes, releases) {
  const found = new Map();
  for (const own of releases) found.set(releaseKey(own), { ...own, own });
  for (const node of nodes) {
    if (node.gone) continue;
    for (const release of node.releases ?? []) {
      const key = releaseKey(release);
      if (!found.has(key)) found.set(key, { ...release, own: null });
    }
  }
  return found;
}

const releaseKey = ({ image, release }) => `${image}@${release}`;
const sameRelease = (a, b) => a.image === b.image && a.release === b.release;

function newSection(image, release) {
  const root = $('release-template').content.firstElementChild.cloneNode(true);
  const find = (selector) => root.querySelector(selector);
  const section = {
    root, image, release,
    state: find('.state'), reason: find('.reason'), path: find('.path'), sum: find('.sum'), body: find('tbody'),
    site: { row: find('tr.site'), canvas: find('tr.site canvas'), words: find('tr.site .words'), drawn: null },
    rows: new Map(),
    // Open until the reader decides otherwise, unless all of it was over before the page was opened.
    touched: false,
  };
  const title = image ? `${image}@${release}` : `release ${shortId(release)}, unknown to this node`;
  setText(find('h2'), title);
  setText(find('caption'), `Clients of the site, and how much of ${title} each of them holds`);
  find('summary').addEventListener('click', () => { section.touched = true; });
  root.addEventListener('toggle', () => { if (root.open && current) showRelease(section, section.own, current.nodes); });
  return section;
}

function showRelease(section, own, nodes) {
  section.own = own;
  const clients = nodes.flatMap((node) => {
    const part = node.releases?.find((release) => sameRelease(release, section));
    return part ? [{ node, part }] : [];
  });
  const live = clients.filter(({ node }) => !node.gone);
  const complete = live.filter(({ part }) => part.complete).length;
  if (!section.touched) section.root.open ||= complete < live.length || sections.size === 1 || isNewest(section);

  setText(section.state, own ? own.state : '');
  section.state.className = `state ${own?.state ?? ''}`;
  setText(section.reason, [own?.reason, costText(own)].filter(Boolean).join('; '));
  setText(section.path, [own?.path && `files on this node: ${own.path}`, keepingText(own)].filter(Boolean).join('; '));
  setText(section.sum, releaseSummary(own, live, complete));
  if (!section.root.open) return;
  showSiteRow(section.site, live);
  showClients(section, clients);
}

const isNewest = ({ image, release }) => {
  const newest = current.releases.find((own) => own.image === image);
  return newest === undefined || newest.release === release;
};

function releaseSummary(own, live, complete) {
  const total = own?.bytes.total ?? live[0]?.part.bytes.total ?? 0;
  const blocks = own ? ` in ${own.blocks.total.toLocaleString('en')} blocks` : '';
  return `${bytes(total)}${blocks}, complete on ${complete} of ${live.length}`;
}

const costText = (own) => (own?.cost == null ? '' : `fetching it takes ${bytes(own.cost)}`);

/** Why a release stays on this node, and when it goes. */
function keepingText(own) {
  if (!own?.kept) return '';
  const goes = own.goes === 1 ? ', goes first' : own.goes ? `, goes as number ${own.goes}` : '';
  return `stays here: ${own.kept}${own.held ? ', held' : ''}${own.withdrawn ? ', not in the repository any more' : ''}${goes}`;
}

/** How many of the live clients hold each part: what the site could finish by itself. */
function showSiteRow(site, live) {
  const holders = new Array(CELLS).fill(0);
  for (const { part } of live) {
    for (let cell = 0; cell < CELLS; cell += 1) if ((part.strip?.[cell] ?? '.') !== '.') holders[cell] += 1;
  }
  const drawn = `${live.length}:${holders.join()}`;
  if (drawn === site.drawn) return;
  site.drawn = drawn;
  const onSite = holders.filter((count) => count > 0).length;
  const words = onSite === CELLS ? 'all of it is on the site'
    : onSite === 0 ? 'none of it is on the site' : `${percent(onSite, CELLS)} of it is on the site`;
  setText(site.words, words);
  site.canvas.setAttribute('aria-label', `Whole site: ${words}. The higher a bar, the more clients hold that part.`);
  draw(site.canvas, (cell) => holders[cell] === 0
    ? { colour: 'missing', height: HEIGHTS.missing }
    : { colour: 'whole', height: Math.max(3, Math.ceil(STRIP_ROWS * holders[cell] / live.length)) });
}

// ---------------------------------------------------------------------------------------------------------------
// Clients of a release

function showClients(section, clients) {
  const unfinishedOnly = $('unfinished').checked;
  const shown = new Set();
  let previous = section.site.row;
  for (const { node, part } of clients) {
    let client = section.rows.get(node.peer_id);
    if (!client) {
      client = newClient();
      section.rows.set(node.peer_id, client);
    }
    shown.add(node.peer_id);
    keepOrder(section.body, client.row, previous);
    previous = client.row;
    client.row.hidden = unfinishedOnly && part.complete;
    showClient(client, node, part, node.self ? section.own : null);
  }
  for (const [id, client] of section.rows) {
    if (shown.has(id)) continue;
    client.row.remove();
    section.rows.delete(id);
  }
}

function newClient() {
  const row = $('client-template').content.firstElementChild.cloneNode(true);
  const find = (selector) => row.querySelector(selector);
  return {
    row, canvas: find('canvas'), drawn: null,
    name: find('.name'), tags: find('.tags'), here: find('.here'), wan: find('.wan'), lan: find('.lan'),
    trimmed: find('.trimmed'), speed: find('.speed'), time: find('.time'),
    samples: [], startedAt: null, finishedAt: null,
  };
}

function showClient(client, node, part, own) {
  const amounts = amountsOf(part);
  observe(client, node, part, amounts);
  const speed = own?.rate ?? measuredRate(client);
  showName(client, node);
  client.row.classList.toggle('done', part.complete);
  setText(client.here, percent(amounts.have, amounts.total));
  setAmount(client.wan, amounts.wan);
  setAmount(client.lan, amounts.lan);
  setAmount(client.trimmed, amounts.trimmed);
  setText(client.speed, speed >= 1000 && !part.complete ? rate(speed) : '');
  setText(client.time, timeText(client, node, part, amounts, speed, own));
  client.time.title = client.finishedAt ? `complete at ${clock(client.finishedAt)}` : '';
  showStrip(client, node, part, amounts);
}

/** Encoded bytes by source; what is neither from the WAN nor from the LAN was here before. */
function amountsOf({ bytes: { total = 0, have = 0, wan = 0, lan = 0 } }) {
  return { total, have, wan, lan, trimmed: Math.max(0, have - wan - lan) };
}

/** Remembers what rates and times are made of. Only what this page saw itself counts. */
function observe(client, node, part, { wan, lan }) {
  if (node.gone) return;
  const moved = wan + lan;
  const last = client.samples.at(-1);
  // Counters that fall belong to an agent that started again.
  if (last && moved < last.moved) client.samples = [];
  if (last && last.moved === 0 && moved > 0) client.startedAt = new Date();
  if (last && !last.complete && part.complete) client.finishedAt = new Date();
  if (!part.complete) client.finishedAt = null;
  addSample(client.samples, { at: performance.now(), moved, complete: part.complete });
}

function addSample(samples, sample) {
  samples.push(sample);
  while (samples.length > 2 && sample.at - samples[0].at > RATE_WINDOW_MS) samples.shift();
}

function measuredRate({ samples }) {
  const [first, last] = [samples[0], samples.at(-1)];
  if (!first || last.at - first.at < POLL_MS / 2) return 0;
  return (last.moved - first.moved) / ((last.at - first.at) / 1000);
}

function timeText(client, node, part, { total, have }, speed, own) {
  if (node.gone) return '';
  if (part.complete) return doneText(client);
  if (have >= total) return 'putting in place';
  const left = own ? own.eta_seconds : speed >= 1000 ? (total - have) / speed : null;
  return left == null ? '' : `${duration(left)} left`;
}

function doneText({ startedAt, finishedAt }) {
  if (!finishedAt) return 'done';
  return startedAt ? `done in ${duration((finishedAt - startedAt) / 1000)}` : `done ${clock(finishedAt)}`;
}

function showName(client, node) {
  setText(client.name, node.name);
  client.name.title = `${node.name} ${node.address ?? ''}`;
  for (const [name, on] of [['self', node.self], ['fetching', node.fetching], ['gone', node.gone], ['away', isAway(node)]]) {
    client.row.classList.toggle(name, Boolean(on));
  }
  setText(client.tags, tagsOf(node));
}

const isAway = (node) => !node.self && !node.connected;

function tagsOf(node) {
  if (node.gone) return `gone since ${clock(new Date(node.gone))}`;
  const tags = [];
  if (node.fetching) tags.push('fetcher');
  if (node.role === 'seed') tags.push('seed');
  if (node.self) tags.push('this node');
  if (isAway(node)) tags.push('no link');
  return tags.join(', ');
}

function setAmount(cell, amount) {
  setText(cell, bytes(amount));
  cell.classList.toggle('zero', amount === 0);
}

function showStrip(client, node, part, { total, have, wan, lan, trimmed }) {
  const strip = part.strip ?? '';
  const label = `${node.name}: ${percent(have, total)} here; from the WAN ${percent(wan, total)}, `
    + `from the LAN ${percent(lan, total)}, already here ${percent(trimmed, total)}`;
  setAttribute(client.canvas, 'aria-label', label);
  if (strip === client.drawn) return;
  client.drawn = strip;
  draw(client.canvas, (cell) => {
    const colour = SOURCES[strip[cell]] ?? 'missing';
    return { colour, height: HEIGHTS[colour] };
  });
}

// ---------------------------------------------------------------------------------------------------------------
// Strips: a canvas of one pixel a cell, stretched by the style sheet. 1000 of them take 10 MB and no layout.

let palette = readPalette();

function readPalette() {
  const style = getComputedStyle(document.documentElement);
  const names = ['wan', 'lan', 'trimmed', 'missing', 'whole'];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function draw(canvas, cellAt) {
  const context = canvas.getContext('2d');
  context.clearRect(0, 0, CELLS, STRIP_ROWS);
  let run = { ...cellAt(0), from: 0 };
  for (let cell = 1; cell <= CELLS; cell += 1) {
    const next = cell < CELLS ? cellAt(cell) : null;
    if (next && next.colour === run.colour && next.height === run.height) continue;
    context.fillStyle = palette[run.colour];
    context.fillRect(run.from, STRIP_ROWS - run.height, cell - run.from, run.height);
    if (next) run = { ...next, from: cell };
  }
}

/** The colours changed (day to night): every strip is drawn anew. */
function redraw() {
  palette = readPalette();
  for (const section of sections.values()) {
    section.site.drawn = null;
    for (const client of section.rows.values()) client.drawn = null;
  }
  if (current) showReleases(current);
}

// ---------------------------------------------------------------------------------------------------------------
// Members and links

const links = new Map();

function linksSummary({ nodes, peers }) {
  const here = nodes.filter((node) => !node.gone).length;
  const connected = peers.filter((peer) => peer.state === 'connected').length;
  const gone = nodes.length - here;
  return `${here} ${here === 1 ? 'member' : 'members'}, ${connected} linked to this node${gone > 0 ? `, ${gone} gone` : ''}`;
}

function showLinks({ nodes, peers }) {
  const body = $('members-section').querySelector('tbody');
  const states = new Map(peers.map((peer) => [peer.peer_id, peer]));
  const shown = new Set();
  let previous = null;
  for (const node of nodes) {
    let link = links.get(node.peer_id);
    if (!link) {
      link = newLink();
      links.set(node.peer_id, link);
    }
    shown.add(node.peer_id);
    keepOrder(body, link.row, previous);
    previous = link.row;
    const peer = states.get(node.peer_id);
    showName(link, node);
    setText(link.link, node.self ? '' : node.gone ? 'gone' : peer?.state ?? (node.connected ? 'connected' : 'no link'));
    setText(link.address, node.address ?? peer?.address ?? '');
    setAmount(link.wan, node.wan_bytes ?? 0);
    setText(link.peer, node.peer_id);
  }
  for (const [id, link] of links) {
    if (shown.has(id)) continue;
    link.row.remove();
    links.delete(id);
  }
}

function newLink() {
  const row = $('link-template').content.firstElementChild.cloneNode(true);
  const find = (selector) => row.querySelector(selector);
  return {
    row, name: find('.name'), tags: find('.tags'), link: find('.link'), address: find('.address'), wan: find('.wan'),
    peer: find('.peer'),
  };
}

// ---------------------------------------------------------------------------------------------------------------
// Touching the document as little as possible

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Puts `child` behind `previous` (or first) unless it already is there. */
function keepOrder(parent, child, previous) {
  const at = previous ? previous.nextElementSibling : parent.firstElementChild;
  if (at !== child) parent.insertBefore(child, at);
}

// ---------------------------------------------------------------------------------------------------------------
// Figures in words

const sum = (items, of) => items.reduce((total, item) => total + of(item), 0);

const shortId = (id) => (id.length > 12 ? `…${id.slice(-8)}` : id);

/** Rounded down, so that nothing is 100 % before it is complete. */
function percent(part, whole) {
  if (!(whole > 0)) return '–';
  const share = Math.floor(1000 * part / whole) / 10;
  return share >= 100 ? '100 %' : `${share.toFixed(1)} %`;
}

function bytes(count) {
  if (!count) return '0';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const unit = Math.min(Math.floor(Math.log2(count) / 10), units.length - 1);
  const value = count / 1024 ** unit;
  return `${value.toFixed(unit < 2 || value >= 100 ? 0 : value >= 10 ? 1 : 2)} ${units[unit]}`;
}

/** Lines are sold and limited in bits per second: so are rates. */
function rate(bytesPerSecond) {
  const bits = 8 * (bytesPerSecond ?? 0);
  if (bits < 1000) return '0 Mbit/s';
  if (bits < 1e5) return '<0.1 Mbit/s';
  if (bits < 1e9) return `${(bits / 1e6).toFixed(bits < 1e8 ? 1 : 0)} Mbit/s`;
  return `${(bits / 1e9).toFixed(2)} Gbit/s`;
}

function duration(seconds) {
  const whole = Math.round(seconds ?? 0);
  if (whole < 60) return `${whole} s`;
  if (whole < 600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 48 * 3600) return `${Math.floor(whole / 3600)} h ${Math.floor(whole % 3600 / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole % 86400 / 3600)} h`;
}

const clock = (date) => date.toLocaleTimeString('en-GB');

// ---------------------------------------------------------------------------------------------------------------

$('unfinished').addEventListener('change', () => { if (current) showReleases(current); });
$('members-section').addEventListener('toggle', () => { if (current) showLinks(current); });
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
document.addEventListener('visibilitychange', poll);
poll();

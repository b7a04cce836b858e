/* The ladders of the live books: what /ws/market/{symbol}/ says, and how long ago it said so. */
"use strict";

(() => {
  const SILENT_MS = 8000; // the server says something at least every three seconds
  const TABLE_SILENT_MS = 10000; // and the table is fetched as often
  const LONGEST_PAUSE_MS = 15000;
  const CARD = "bg-white border border-base-200 rounded-default shadow-xs dark:bg-base-900 dark:border-base-800";
  const FINAL = {
    4400: "the request was refused",
    4401: "your login has ended: log in again",
    4403: "your login has no role that may read the market",
    4404: "no exchange lists this instrument now",
  };

  const place = document.getElementById("live");
  const chooser = document.getElementById("live-instrument");
  const state = document.getElementById("live-state");
  const basis = document.getElementById("live-basis");
  let table = null;
  let tableAt = 0; // performance.now() of when it was fetched
  if (chooser) chooser.addEventListener("change", () => chooser.form.requestSubmit());
  setInterval(judgeTable, 500);
  if (!place) return;

  const levels = Number(place.dataset.levels);
  const cards = new Map();
  let newest = null;
  let heardAt = null; // performance.now() of the newest message
  let triedAt = null; // and of when this connection was begun
  let socket = null;
  let failures = 0;
  let ending = "";

  // Each time that the table is fetched it is another element; one that stays is as old as that.
  function judgeTable() {
    const now = performance.now();
    const present = document.getElementById("all-books");
    if (present !== table) [table, tableAt] = [present, now];
    if (table) table.classList.toggle("is-stale", now - tableAt > TABLE_SILENT_MS);
  }

  function element(tag, className, parent) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (parent) parent.append(made);
    return made;
  }

  function write(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  function card(exchange) {
    if (cards.has(exchange)) return cards.get(exchange);
    const box = element("section", `book ${CARD}`, place);
    const header = element("header", "", box);
    write(element("h2", "", header), exchange);
    const made = { box, badge: element("span", "state", header), asks: [], bids: [], facts: {} };
    made.reason = element("div", "reason", box);
    const top = element("div", "top", box);
    made.bid = element("span", "bid", top);
    made.ask = element("span", "ask", top);
    const body = element("tbody", "", element("table", "ladder", box));
    const row = (side) => {
      const line = element("tr", side, body);
      return { line, price: element("td", "", line), quantity: element("td", "", line) };
    };
    for (let level = 0; level < levels; level += 1) made.asks.unshift(row("ask"));
    made.middle = element("td", "", element("tr", "middle", body));
    made.middle.colSpan = 2;
    for (let level = 0; level < levels; level += 1) made.bids.push(row("bid"));
    const facts = element("dl", "", box);
    for (const name of ["mid price", "imbalance", "within 10 bps", "within 50 bps", "age",
      "latency", "messages/s", "downtime", "gaps", "crossings", "resyncs", "malformed",
      "sequence"]) {
      write(element("dt", "", facts), name);
      made.facts[name] = element("dd", "", facts);
    }
    cards.set(exchange, made);
    return made;
  }

  function decimals(book) {
    let most = 0;
    for (const [price] of [...book.bids, ...book.asks, [book.best_bid || 0], [book.best_ask || 0]]) {
      const text = String(price);
      const small = text.match(/e-(\d+)$/);
      most = Math.max(most, small ? Number(small[1]) : (text.split(".")[1] || "").length);
    }
    return Math.min(most, 12);
  }

  const known = (value, tell) => (value === null || value === undefined ? "–" : tell(value));
  const amount = (value) => value.toLocaleString("en", { maximumSignificantDigits: 6 });
  const compact = (value) => known(value, (it) =>
    it.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 }));

  function drawSide(rows, side, most, digits) {
    rows.forEach((row, level) => {
      const [price, quantity] = side[level] || [null, null];
      write(row.price, price === null ? "" : price.toFixed(digits));
      write(row.quantity, quantity === null ? "" : amount(quantity));
      const share = quantity === null ? 0 : Math.min(100, (100 * quantity) / most);
      row.line.style.setProperty("--share", `${share.toFixed(1)}%`);
    });
  }

  function draw(exchange, book) {
    const it = card(exchange);
    const digits = decimals(book);
    const price = (value) => known(value, (some) => some.toFixed(digits));
    it.badge.dataset.state = book.is_synced ? "live" : "stale";
    write(it.badge, book.is_synced ? "synchronised" : "withheld");
    write(it.reason, book.is_synced ? "" : book.reason);
    write(it.bid, price(book.best_bid));
    write(it.ask, price(book.best_ask));
    const bids = book.bids.slice(0, levels);
    const asks = book.asks.slice(0, levels);
    const most = Math.max(...[...bids, ...asks].map(([, quantity]) => quantity), 1e-12);
    drawSide(it.asks, asks, most, digits);
    drawSide(it.bids, bids, most, digits);
    write(it.middle, book.is_synced ? `spread ${known(book.spread_bps, (some) => some.toFixed(2))} bps`
      : "not served");
    const health = book.health;
    const depth = (bps) => known(book.depth_bps[bps], ([bid, ask]) => `${compact(bid)} / ${compact(ask)}`);
    write(it.facts["mid price"], known(book.mid_price, (some) => some.toFixed(digits + 1)));
    write(it.facts.imbalance, known(book.imbalance, (some) => some.toFixed(2)));
    write(it.facts["within 10 bps"], depth("10"));
    write(it.facts["within 50 bps"], depth("50"));
    write(it.facts.latency, known(health.latency_ms, (some) => `${some.toFixed(0)} ms`));
    write(it.facts["messages/s"], health.messages_per_s.toFixed(1));
    write(it.facts.downtime, `${health.withheld_s.toFixed(1)} s`);
    for (const name of ["gaps", "crossings", "resyncs", "malformed"]) {
      write(it.facts[name], String(health[name]));
    }
    write(it.facts.sequence, known(book.sequence, String));
  }

  function drawBasis(books) {
    const mids = Object.entries(books).filter(([, book]) => book.is_synced && book.mid_price);
    if (mids.length < 2) {
      write(basis, "basis – (needs two synchronised books)");
      return;
    }
    const [first, ...others] = mids;
    write(basis, others.map(([name, book]) => {
      const bps = 1e4 * (book.mid_price / first[1].mid_price - 1);
      return `basis ${name} – ${first[0]} ${bps >= 0 ? "+" : ""}${bps.toFixed(2)} bps`;
    }).join(", "));
  }

  function take(message) {
    newest = message;
    heardAt = performance.now();
    failures = 0;
    for (const [exchange, it] of cards) {
      if (!(exchange in message.exchanges)) {
        it.box.remove();
        cards.delete(exchange);
      }
    }
    for (const [exchange, book] of Object.entries(message.exchanges)) draw(exchange, book);
    drawBasis(message.exchanges);
    tick();
  }

  // Nobody knows how the books stand now; the next message says it again.
  function disown() {
    write(basis, "");
    for (const it of cards.values()) {
      it.badge.dataset.state = "stale";
      write(it.badge, "stale");
    }
  }

  function tick() {
    const waited = heardAt === null ? null : performance.now() - heardAt;
    const isStale = Boolean(ending) || (waited !== null && waited > SILENT_MS);
    place.classList.toggle("is-stale", isStale);
    if (isStale) disown();
    if (ending || waited === null) {
      state.dataset.state = ending ? "stale" : "waiting";
      write(state, ending || "connecting");
    } else {
      state.dataset.state = isStale ? "stale" : "live";
      write(state, isStale ? `stale: nothing for ${(waited / 1000).toFixed(0)} s` : "live");
    }
    // A connection may be lost without anybody having said so; a new one has its time to begin.
    const quiet = performance.now() - Math.max(triedAt, heardAt ?? 0);
    if (quiet > 3 * SILENT_MS && socket.readyState === WebSocket.OPEN) socket.close();
    if (newest === null) return;
    for (const [exchange, book] of Object.entries(newest.exchanges)) {
      const age = book.received_at === null ? null
        : Math.max(0, new Date(newest.at) - new Date(book.received_at)) + waited;
      write(card(exchange).facts.age, known(age, (some) => `${(some / 1000).toFixed(1)} s`));
    }
  }

  function connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const name = encodeURIComponent(place.dataset.symbol);
    triedAt = performance.now();
    socket = new WebSocket(`${scheme}://${location.host}/ws/market/${name}/?levels=${levels}`);
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.type === "market") {
        ending = "";
        take(message);
      }
    };
    socket.onclose = (event) => {
      if (FINAL[event.code]) {
        ending = `stale: ${FINAL[event.code]}`;
        tick();
        return;
      }
      const pause = Math.min(500 * 2 ** failures, LONGEST_PAUSE_MS) * (0.5 + Math.random() / 2);
      failures += 1;
      ending = "stale: connection lost, trying again";
      tick();
      setTimeout(connect, pause);
    };
  }

  connect();
  setInterval(tick, 500);
})();

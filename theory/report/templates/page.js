"use strict";
// Filters and sorts the claims. Without this script the page shows all of them, in the order of the catalogue.
(() => {
  const form = document.getElementById("controls");
  const lists = [...document.querySelectorAll(".claims")].map((box) => ({ box, items: [...box.children] }));
  const claims = lists.flatMap(({ items }) => items.filter((item) => item.matches(".claim")));
  const texts = new Map(claims.map((claim) => {
    const searched = [...claim.querySelectorAll("[data-searched]")].map((part) => part.textContent);
    return [claim, searched.join(" ").toLowerCase()];
  }));
  const orders = {
    id: (a, b) => (a.dataset.id < b.dataset.id ? -1 : 1),
    looseness: (a, b) => descending(a.dataset.looseness, b.dataset.looseness),
    seconds: (a, b) => descending(a.dataset.seconds, b.dataset.seconds),
    rank: (a, b) => a.dataset.rank - b.dataset.rank,
  };

  // Numbers, the largest first; what has none comes last.
  function descending(a, b) {
    return (b === "" ? -Infinity : Number(b)) - (a === "" ? -Infinity : Number(a)) || 0;
  }

  function matches(claim, wanted) {
    const chosen = (name) => !wanted.get(name) || claim.dataset[name] === wanted.get(name);
    const unexpected = wanted.get("verdict") === "not as expected";
    return chosen("family") && chosen("kind") && (unexpected ? claim.dataset.rank === "0" : chosen("verdict"))
      && wanted.get("text").toLowerCase().split(/\s+/).every((word) => texts.get(claim).includes(word));
  }

  function update() {
    const wanted = new FormData(form);
    for (const claim of claims) claim.hidden = !matches(claim, wanted);
    for (const { box, items } of lists) {
      const order = orders[wanted.get("order")];
      const sorted = order ? items.filter((item) => texts.has(item)).sort(order) : items;
      const shown = new Set(items.filter((item) => texts.has(item) && !item.hidden).map((item) => item.dataset.family));
      for (const item of items) if (!texts.has(item)) item.hidden = Boolean(order) || !shown.has(item.textContent);
      box.append(...sorted);
      box.parentElement.hidden = shown.size === 0;
    }
    const count = claims.filter((claim) => !claim.hidden).length;
    form.querySelector("output").textContent = `${count} of ${claims.length} claims shown`;
  }

  // A link to a claim unfolds it, and shows it where the filters hide it.
  function unfold() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const claim = target && target.closest(".claim");
    if (!claim) return;
    if (claim.hidden) {
      form.reset();
      update();
    }
    claim.open = true;
    claim.scrollIntoView();
  }

  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const each of folded) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of folded) each.open = false;
  });
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", unfold);
  form.hidden = claims.length === 0;
  update(); // a browser may have kept what was chosen before the page was loaded again
  unfold();
})();

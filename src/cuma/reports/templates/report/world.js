"use strict";
// The world: how far each method is from the people of a country, and which countries are served by the same experts.
page.add(() => {
  const { methods, topology, world, at, colour, percent, escape, fill, draw } = page;
  const { countries, points } = world;
  const asked = methods.map((_, i) => i).filter((i) => countries.some((country) => country.errors[i] !== null));
  // Base layers are off and outlines are ours, but Plotly still asks the network for its own unless it finds some.
  for (const name of ["world_110m", "un_110m"]) PlotlyGeoAssets.topojson[name] ??= { type: "Topology", objects: {}, arcs: [] };

  const views = [
    ...asked.map((method) => ({ kind: "errors", method, name: `Error: ${methods[method].label}` })),
    ...topology.map((entry) => ({ kind: "routing", entry, name: `Experts alike: ${methods[entry.method].label}` })),
    ...topology.map((entry) => ({ kind: "expert", entry, name: `One expert: ${methods[entry.method].label}` })),
  ];
  const view = () => views[Number(at("world-view").value)];
  const placeIn = (entry, label) => entry.groups.indexOf(label);

  // The share of the mixture that two countries give to the same experts, averaged over layers (entry.gates[0] is their mean).
  function alike(entry, one, other) {
    const layers = entry.gates.slice(1);
    const apart = layers.map((gates) => gates[one].reduce((sum, gate, e) => sum + Math.abs(gate - gates[other][e]), 0) / 2000);
    return 1 - apart.reduce((sum, value) => sum + value, 0) / layers.length;
  }

  function values() {
    const { kind, method, entry } = view();
    if (kind === "errors") return countries.map((country) => country.errors[method]);
    const places = countries.map((country) => placeIn(entry, country.label));
    const choice = Number(at("world-choice").value);
    const from = places[choice];
    return places.map((place) => {
      if (place < 0 || (kind === "routing" && from < 0)) return null;
      return kind === "routing" ? alike(entry, from, place) : entry.gates[0][place][choice] / 1000;
    });
  }

  function fillChoice() {
    const { kind, entry } = view();
    at("world-choice-label").hidden = kind === "errors";
    if (kind === "errors") return;
    at("world-choice-name").textContent = kind === "routing" ? "As in" : "Expert";
    fill(at("world-choice"), kind === "routing" ? countries.map((country) => country.label) : entry.gates[0][0].map((_, e) => `Expert ${e + 1}`));
  }

  const figure = (value) => (view().kind === "errors" ? value.toFixed(3) : percent(value));

  function drawWorld() {
    const found = values();
    const shown = countries.map((country, i) => ({ ...country, value: found[i] })).filter((country) => country.value !== null);
    const onMap = shown.filter((country) => !(country.country in points)), small = shown.filter((country) => country.country in points);
    const all = shown.map((country) => country.value);
    const scale = { colorscale: "Cividis", reversescale: view().kind !== "errors" ? false : true, zmin: Math.min(...all), zmax: Math.max(...all) };
    const text = (list) => list.map((country) => `${escape(country.label)} (${country.seen ? "seen" : "unseen"})<br>${figure(country.value)}`);
    const line = { color: colour("paper"), width: 0.5 };
    const names = world.outlines.features.map((feature) => feature.id);
    const outline = { type: "choropleth", geojson: world.outlines, locationmode: "geojson-id", featureidkey: "id" };
    draw("world", [
      { ...outline, locations: names, z: names.map(() => 0), colorscale: [[0, colour("rule")], [1, colour("rule")]], showscale: false, hoverinfo: "skip", marker: { line } },
      { ...outline, ...scale, locations: onMap.map((country) => country.country), z: onMap.map((country) => country.value), text: text(onMap),
        hovertemplate: "%{text}<extra></extra>", marker: { line: { ...line, color: onMap.map((country) => colour(country.seen ? "paper" : "ink")), width: onMap.map((country) => (country.seen ? 0.5 : 1.6)) } },
        colorbar: { thickness: 10, len: 0.7, outlinewidth: 0, nticks: 5, tickformat: view().kind === "errors" ? ".2f" : ".0%" } },
      { type: "scattergeo", lon: small.map((country) => points[country.country][0]), lat: small.map((country) => points[country.country][1]), text: text(small),
        hovertemplate: "%{text}<extra></extra>", mode: "markers",
        marker: { size: 9, color: small.map((country) => country.value), cmin: scale.zmin, cmax: scale.zmax, colorscale: "Cividis", reversescale: scale.reversescale, line: { color: colour("ink"), width: 1 } } },
    ], {
      margin: { l: 0, r: 0, t: 0, b: 0 },
      geo: {
        projection: { type: "natural earth" }, bgcolor: "rgba(0,0,0,0)", showframe: false, showcoastlines: false, showland: false, showcountries: false,
        showlakes: false, showocean: false, lataxis: { range: [-58, 84] },
      },
    }, view().name);
    describe(shown);
  }

  function describe(shown) {
    const { kind, name } = view();
    const sorted = [...shown].sort((a, b) => a.value - b.value);
    const listed = (list) => list.map((country) => `${country.label} (${figure(country.value)})`).join(", ");
    const ends = [sorted.slice(0, 3), sorted.slice(-3).reverse()].map(listed);
    const words = kind === "errors" ? ["Closest to their people", "Farthest"] : ["Least", "Most"];
    const text = `${words[0]}: ${ends[0]}. ${words[1]}: ${ends[1]}.`;
    at("world-caption").textContent = `${text} Grey: not in this benchmark, or too few people. Dark outline: unseen country. Dots: countries too small for this scale.`;
    at("world").setAttribute("aria-label", `World map. ${name}. ${text}`);
  }

  fill(at("world-view"), views.map((each) => each.name));
  fillChoice();
  at("world-view").onchange = () => { fillChoice(); drawWorld(); };
  at("world-choice").onchange = drawWorld;
  return drawWorld;
});

// What is marked on the map: the object asked about, its look-alikes, what was lassoed, what the hand is on.

export function ringed(map, context, { accent, ink, ground }) {
  const { rings, query, landed, hover, selected } = map.marks;
  const ring = (at, radius, colour, width) => {
    for (const [line, shade] of [[width + 2.5, ground], [width, colour]]) {
      context.lineWidth = line;
      context.strokeStyle = shade;
      context.beginPath();
      context.arc(at[0], at[1], radius, 0, 7);
      context.stroke();
    }
  };
  if (selected.length) {
    context.strokeStyle = accent;
    context.lineWidth = 1.2;
    context.beginPath();
    for (const row of selected.slice(0, 20000)) {
      const at = map.screen(row);
      context.moveTo(at[0] + 4, at[1]);
      context.arc(at[0], at[1], 4, 0, 7);
    }
    context.stroke();
  }
  for (const row of rings) {
    const at = map.screen(row);
    if (at) ring(at, 6.5, ink, 1.4);
  }
  const middle = query === null ? landed && map.place(landed) : map.screen(query);
  if (middle) {
    ring(middle, 10, accent, 2.4);
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(middle[0] + 14 * dx, middle[1] + 14 * dy);
      context.lineTo(middle[0] + 21 * dx, middle[1] + 21 * dy);
    }
    context.stroke();
  }
  if (hover !== null && hover !== undefined) {
    const at = map.screen(hover);
    if (at) ring(at, 7.5, accent, 1.6);
  }
}

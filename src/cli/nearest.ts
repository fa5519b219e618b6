const DISTANCE_MAX = 2;

/** The known word that `given` is most likely a slip of; null when none is close. */
export function nearest(given: string, known: readonly string[]): string | null {
  const ranked = known
    .map(word => ({ word, distance: distance(given, word) }))
    .filter(one => one.distance <= DISTANCE_MAX || (given.length >= 3 && one.word.startsWith(given)))
    .sort((a, b) => a.distance - b.distance);
  return ranked[0]?.word ?? null;
}

/** Letters to change, add or leave out (Levenshtein), a whole word at most. */
function distance(a: string, b: string): number {
  let before = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (before[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(change, (before[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
    }
    before = row;
  }
  return before[b.length] ?? 0;
}

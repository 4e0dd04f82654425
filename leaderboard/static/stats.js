"use strict";
// The harness's statistics for pairs that were not compared beforehand: the same methods as harness/stats/inference.py and
// harness/stats/estimates.py, which cite their sources. The browser tests compare the two.

const harnessStats = (() => {
  const Z = 1.959963984540054; // of 95 %, two-sided

  // Variance per example of a difference of paired proportions, if it were `truth` (Tango 1998).
  function pairedVariance(onlyFirst, onlySecond, truth) {
    const linear = onlyFirst + onlySecond - (2 - onlyFirst + onlySecond) * truth;
    const product = onlySecond * truth * (1 - truth);
    const fitted = (linear + Math.sqrt(Math.max(0, linear * linear + 8 * product))) / 4;
    return Math.max(0, 2 * fitted + truth * (1 - truth));
  }

  // 95 % score interval of a difference of paired proportions (Tango 1998), by bisection. Counts of examples in.
  function tango(onlyFirst, onlySecond, n) {
    const value = (onlyFirst - onlySecond) / n;
    const excess = (truth, sign) =>
      sign * (value - truth) - Z * Math.sqrt(pairedVariance(onlyFirst / n, onlySecond / n, truth) / n);
    function root(outside, inside, sign) { // excess is positive outside the interval
      for (let i = 0; i < 200 && outside !== inside; i++) {
        const middle = (outside + inside) / 2;
        if (middle === outside || middle === inside) break;
        if (excess(middle, sign) > 0) outside = middle; else inside = middle;
      }
      return (outside + inside) / 2;
    }
    const aside = 1e-12; // without disagreements the estimate itself is a root too
    return [value > -1 ? root(-1, value - aside, 1) : -1, value < 1 ? root(1, value + aside, -1) : 1];
  }

  // Exact two-sided p-value of McNemar's test, from the counts of examples that only one side gets right.
  function mcnemar(onlyFirst, onlySecond) {
    const n = onlyFirst + onlySecond, least = Math.min(onlyFirst, onlySecond);
    if (onlyFirst === onlySecond) return 1;
    let logTerm = -n * Math.LN2;
    for (let k = 1; k <= least; k++) logTerm += Math.log((n - k + 1) / k);
    let term = Math.exp(logTerm), sum = 0;
    for (let k = least; k >= 0; k--) {
      sum += term;
      term *= k / (n - k + 1);
    }
    return Math.min(1, 2 * sum);
  }

  // Adjusted p-values, in the order given: Holm (1979) and Benjamini & Hochberg (1995).
  function holm(pValues) {
    return stepped(pValues, (a, b) => a - b, (p, rank) => p * (pValues.length - rank), Math.max, 0);
  }

  function benjaminiHochberg(pValues) {
    const n = pValues.length;
    return stepped(pValues, (a, b) => b - a, (p, rank) => (p * n) / (n - rank), Math.min, 1);
  }

  function stepped(pValues, order, adjust, worst, start) {
    const adjusted = new Array(pValues.length);
    let last = start;
    pValues.map((p, i) => [p, i]).sort((one, other) => order(one[0], other[0])).forEach(([p, i], rank) => {
      last = worst(last, adjust(p, rank));
      adjusted[i] = Math.min(1, last);
    });
    return adjusted;
  }

  // Two-sided p-value of a normal deviate: erfc(z / √2), relative error below 1.2e-7 (Press et al., Numerical Recipes,
  // section 6.2).
  function twoSidedP(value, standardError) {
    if (!(standardError > 0)) return 1;
    const x = Math.abs(value) / standardError / Math.SQRT2, t = 2 / (2 + x);
    const terms = [
      0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368,
      -1.26551223,
    ];
    return t * Math.exp(-x * x + terms.reduce((sum, term) => sum * t + term));
  }

  // Two-sided p-value of a deviate of Student's t: the incomplete beta function at ν / (ν + t²) with parameters ν / 2 and
  // 1/2, by its continued fraction (Press et al., Numerical Recipes, section 6.4). Normal for infinite degrees of freedom.
  function twoSidedT(value, standardError, degrees) {
    if (!(standardError > 0)) return 1;
    if (!Number.isFinite(degrees)) return twoSidedP(value, standardError);
    const t = value / standardError;
    return incompleteBeta(degrees / 2, 0.5, degrees / (degrees + t * t));
  }

  function incompleteBeta(a, b, x) {
    if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
    if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(b, a, 1 - x);
    const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x)) / a;
    let c = 1, d = 1 / (1 - ((a + b) * x) / (a + 1)), fraction = d;
    for (let m = 1; m <= 500; m++) {
      for (const term of [
        (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)),
        (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1)),
      ]) {
        d = 1 / (1 + term * d);
        c = 1 + term / c;
        fraction *= c * d;
      }
      if (Math.abs(c * d - 1) < 1e-14) break;
    }
    return front * fraction;
  }

  // Stirling's series after a shift to where it is exact to the last digits.
  function logGamma(x) {
    let shift = 0;
    for (; x < 15; x++) shift -= Math.log(x);
    const i = 1 / x, i2 = i * i;
    const series = i * (1 / 12 - i2 * (1 / 360 - i2 * (1 / 1260 - i2 / 1680)));
    return shift + (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + series;
  }

  // Degrees of freedom of a variance, of which the seeds of each side add a part (Welch and Satterthwaite).
  function welchDegrees(total, parts) {
    const few = parts.reduce((sum, [part, n]) => (n > 1 ? sum + (part * part) / (n - 1) : sum), 0);
    return few > 0 ? (total * total) / few : Infinity;
  }

  // A 95 % interval that takes its variance as known, widened as Student's t is wider than the normal.
  function widened(value, [low, high], degrees) {
    if (!Number.isFinite(degrees)) return [low, high];
    let inside = Z, outside = 1e6;
    for (let i = 0; i < 100; i++) {
      const middle = (inside + outside) / 2;
      if (twoSidedT(middle, 1, degrees) > 0.05) inside = middle;
      else outside = middle;
    }
    const factor = outside / Z;
    return [value - factor * (value - low), value + factor * (high - value)];
  }

  // A generator of uniform numbers in [0, 1), reproducible by seed (mulberry32, public domain).
  function generator(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = state;
      t = Math.imul(t ^ (t >>> 15), t | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  function quantile(sorted, share) {
    const place = share * (sorted.length - 1), below = Math.floor(place);
    const above = Math.min(below + 1, sorted.length - 1);
    return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
  }

  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  function variance(values) {
    const middle = mean(values);
    return values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1);
  }

  // Units numbered from 0 without gaps, for the chosen examples: clusters, or each example alone.
  function unitsOf(clusters, chosen) {
    if (clusters === null) return { of: Uint32Array.from(chosen, (_, i) => i), n: chosen.length };
    const numbers = new Map();
    const of = Uint32Array.from(chosen, (i) => {
      if (!numbers.has(clusters[i])) numbers.set(clusters[i], numbers.size);
      return numbers.get(clusters[i]);
    });
    return { of, n: numbers.size };
  }

  // Accuracy of a minus b on the chosen examples, with a 95 % interval and a p-value; null with a single cluster.
  //   a, b: for each seed, correctness as a Uint8Array over all examples
  //   clusters: a Uint32Array over all examples, or null
  //   chosen: positions of examples
  // One seed per side and no clusters: Tango and exact McNemar. Otherwise a bootstrap over clusters (or examples) and
  // seeds, percentile interval and normal p-value, those of Student's t for few seeds; its draws are this page's own. If
  // all resamples agree, Tango again, with as many examples as there are units.
  function difference(a, b, clusters, chosen, resamples) {
    const share = (right) => chosen.reduce((sum, i) => sum + right[i], 0) / chosen.length;
    const value = mean(a.map(share)) - mean(b.map(share));
    if (a.length === 1 && b.length === 1 && clusters === null) {
      const [onlyA, onlyB] = disagreements(a[0], b[0], chosen);
      return { value, interval: tango(onlyA, onlyB, chosen.length), p: mcnemar(onlyA, onlyB), exact: true };
    }
    const units = unitsOf(clusters, chosen);
    if (units.n < 2) return null;
    const drawn = resampled([...a, ...b], a.length, units, chosen, resamples);
    const sorted = Float64Array.from(drawn.seedsDrawn).sort();
    const error = Math.sqrt(Math.max(variance(drawn.seedsHeld), variance(drawn.seedsDrawn)));
    const total = variance(drawn.seedsHeld) + drawn.ofSeedsA + drawn.ofSeedsB;
    const degrees = welchDegrees(total, [[drawn.ofSeedsA, a.length], [drawn.ofSeedsB, b.length]]);
    let interval = widened(value, [quantile(sorted, 0.025), quantile(sorted, 0.975)], degrees);
    if (interval[0] === interval[1]) {
      const perUnit = (count) => Math.floor((count * units.n) / chosen.length + 0.5);
      interval = tango(...disagreements(a[0], b[0], chosen).map(perUnit), units.n);
    }
    return { value, interval, p: twoSidedT(value, error, degrees), exact: false };
  }

  // Differences in resamples of the units, with all seeds (`seedsHeld`) and with resampled ones (`seedsDrawn`); and the
  // mean variance that the seeds of each side add. Seeds are drawn by the bootknife: one is left out, the others are drawn.
  function resampled(sides, nA, units, chosen, resamples) {
    const width = sides.length + 1; // for each unit: number of examples, and number that each seed gets right
    const counts = new Float64Array(units.n * width);
    chosen.forEach((i, k) => {
      const start = units.of[k] * width;
      counts[start] += 1;
      sides.forEach((right, s) => { counts[start + 1 + s] += right[i]; });
    });
    const random = generator(20240229), held = [[], []], drawn = [[], []], ofSeeds = [0, 0];
    const total = new Float64Array(width), nB = sides.length - nA;
    for (let r = 0; r < resamples; r++) {
      total.fill(0);
      for (let k = 0; k < units.n; k++) {
        const start = Math.floor(random() * units.n) * width;
        for (let j = 0; j < width; j++) total[j] += counts[start + j];
      }
      [[0, nA], [nA, nB]].forEach(([first, n], side) => {
        const leftOut = Math.floor(random() * n);
        let all = 0, some = 0;
        for (let s = 0; s < n; s++) {
          all += total[1 + first + s];
          const other = Math.floor(random() * (n - 1));
          some += total[1 + first + (n === 1 ? 0 : other + (other >= leftOut))];
        }
        held[side].push(all / n / total[0]);
        drawn[side].push(some / n / total[0]);
        if (n > 1) {
          const shares = Array.from({ length: n }, (_, s) => total[1 + first + s] / total[0]);
          ofSeeds[side] += variance(shares) / n / resamples;
        }
      });
    }
    const gaps = ([one, other]) => one.map((share, r) => share - other[r]);
    return { seedsHeld: gaps(held), seedsDrawn: gaps(drawn), ofSeedsA: ofSeeds[0], ofSeedsB: ofSeeds[1] };
  }

  // Number of chosen examples that only the first gets right, and number that only the second does.
  function disagreements(first, second, chosen) {
    let onlyFirst = 0, onlySecond = 0;
    for (const i of chosen) {
      if (first[i] && !second[i]) onlyFirst++;
      if (second[i] && !first[i]) onlySecond++;
    }
    return [onlyFirst, onlySecond];
  }

  return { tango, mcnemar, holm, benjaminiHochberg, twoSidedP, twoSidedT, widened, difference, disagreements };
})();

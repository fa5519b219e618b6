import { modes } from './scenarios/modes.ts';
import { disjointRanges, everyNetwork, overlappingRanges } from './scenarios/networks.ts';
import { cooldown, quarantine } from './scenarios/rest.ts';
import type { Stage } from './stage.ts';

export interface Scenario {
  readonly name: string;
  run(stage: Stage, say: (text: string) => void): Promise<void>;
}

/** In their order: each leaves the stage clear, or as the next one wants it. */
export const SCENARIOS: readonly Scenario[] = [
  {
    name: 'one server for all hosts, on HTTPS and MySQL',
    run: (stage, say) => everyNetwork(stage, say, 'central'),
  },
  {
    name: 'a server on each host, with a MySQL in common',
    run: (stage, say) => everyNetwork(stage, say, 'shared'),
  },
  { name: 'embedded, with ranges of their own', run: disjointRanges },
  { name: 'embedded, over the same range', run: overlappingRanges },
  { name: 'the quarantine', run: quarantine },
  { name: 'the cooldown', run: cooldown },
  { name: 'the modes of ipvlan', run: modes },
];

import type { Say, Way } from './host.ts';
import { churn } from './scenarios/churn.ts';
import { everyday } from './scenarios/docker.ts';
import { modes } from './scenarios/modes.ts';
import {
  disjointRanges,
  everyNetwork,
  everyNetworkAndNoMore,
  overlappingRanges,
} from './scenarios/networks.ts';
import { dockerFirst, inOrder } from './scenarios/reboot.ts';
import { cooldown, quarantine } from './scenarios/rest.ts';
import type { Stage } from './stage.ts';

export interface Scenario {
  readonly name: string;
  run(stage: Stage, say: Say): Promise<void>;
}

/** Scenarios on hosts that are served in one way: one after the other in each track, the tracks at once. */
export interface Act {
  readonly way: Way;
  readonly tracks: readonly (readonly Scenario[])[];
}

export const ACTS: readonly Act[] = [
  { way: 'central', tracks: [[{ name: 'one server for all hosts, on HTTPS and MySQL', run: everyNetwork }]] },
  {
    way: 'shared',
    tracks: [
      [
        {
          name: 'a server on each host, with a MySQL in common; what the wire drops',
          run: everyNetworkAndNoMore,
        },
        { name: 'what the quarantine is for', run: quarantine },
        { name: 'churn, with failures of all parts', run: churn },
      ],
    ],
  },
  {
    way: 'embedded',
    tracks: [
      [
        { name: 'a reboot in the order of the unit', run: inOrder },
        { name: 'a reboot in the worst order', run: dockerFirst },
      ],
      [
        { name: "everyday Docker, and the README's Compose file", run: everyday },
        { name: 'the modes of ipvlan', run: modes },
        { name: 'what the cooldown is for', run: cooldown },
      ],
    ],
  },
  {
    way: 'embedded',
    tracks: [
      [
        { name: 'embedded, with ranges of their own', run: disjointRanges },
        { name: 'embedded, over the same range', run: overlappingRanges },
      ],
    ],
  },
];

export const SCENARIOS: readonly Scenario[] = ACTS.flatMap(({ tracks }) => tracks.flat());

import type { Fixture } from './fixture.ts';
import type { Way } from './host.ts';
import { churn } from './scenarios/churn.ts';
import { everyday } from './scenarios/docker.ts';
import { doctor } from './scenarios/doctor.ts';
import { evidence } from './scenarios/evidence.ts';
import { modes } from './scenarios/modes.ts';
import {
  disjointRanges,
  everyNetwork,
  everyNetworkAndNoMore,
  overlappingRanges,
} from './scenarios/networks.ts';
import { dockerFirst, inOrder } from './scenarios/reboot.ts';
import { cooldown, quarantine } from './scenarios/rest.ts';

export interface Scenario {
  /** As `subject: rule`. */
  readonly name: string;
  run(fixture: Fixture): Promise<void>;
}

/** Scenarios on hosts that are served in one way: one after the other in each track, the tracks at once. */
export interface Group {
  readonly way: Way;
  readonly tracks: readonly (readonly Scenario[])[];
}

const group = (way: Way, ...tracks: Scenario[][]): Group => ({ way, tracks });
const scenario = (name: string, run: Scenario['run']): Scenario => ({ name, run });

export const GROUPS: readonly Group[] = [
  group('central', [
    scenario('central server, on HTTPS and MySQL: containers reach their tenant and no other', everyNetwork),
  ]),
  group('shared', [
    scenario(
      'server on each host, on one MySQL: containers reach their tenant; the wire drops the rest',
      everyNetworkAndNoMore,
    ),
    scenario('quarantine: what peers send to the former ENI ends before the next holder', quarantine),
    scenario('churn while all parts fail: no address has two holders', churn),
  ]),
  group(
    'embedded',
    [
      scenario('reboot in the order of the unit: containers that restart always are reached again', inOrder),
      scenario('reboot with Docker first: containers stay down until they are started', dockerFirst),
    ],
    [
      scenario("everyday Docker, and the README's Compose file: each container is reached", everyday),
      scenario('modes of ipvlan: containers reach what the README says', modes),
      scenario('cooldown: nobody answers for the former container', cooldown),
      scenario('evidence: a leak ends once no ipvlan slave has its address', evidence),
    ],
  ),
  group('embedded', [
    scenario('embedded, ranges of their own: no host gives an address of the other', disjointRanges),
    scenario('embedded, the same range: what EC2 refuses is skipped', overlappingRanges),
  ]),
  group('embedded', [scenario('doctor: a healthy host is, and each of thirteen troubles is named', doctor)]),
];

export const SCENARIOS: readonly Scenario[] = GROUPS.flatMap(({ tracks }) => tracks.flat());

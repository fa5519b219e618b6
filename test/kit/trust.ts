/** The trust in hosts of a server in a test. */
import { IpamError } from '../../src/domain/error.ts';
import type { Store } from '../../src/store/store.ts';
import { createTrust, type Trust, type TrustDeps } from '../../src/trust/trust.ts';
import { pause } from './wait.ts';

/** Hosts cannot enrol, unless `more` has roles and the passphrase. */
export const trustWith = (store: Store, more: Partial<TrustDeps> = {}): Trust =>
  createTrust({
    store,
    describe: async id => {
      throw new IpamError('ec2-not-found', `no ${id}`);
    },
    region: async () => 'eu-central-1',
    roles: [],
    passphrase: null,
    stsOverride: undefined,
    timeOfDay: Date.now,
    clock: () => performance.now(),
    wait: pause,
    log: () => {},
    ...more,
  });

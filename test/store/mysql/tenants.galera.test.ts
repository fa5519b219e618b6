// Goal: servers on different nodes of a cluster, where a lock is known on one node only, do not pass a quota together.
// Method: three nodes, a store on each, all take addresses for one tenant at the same time, over and over.
import { sharedGalera } from '../../kit/databases/galera.ts';
import { range } from '../../kit/rows.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { raceFor } from '../contract/tenants.ts';

const galera = await sharedGalera();
const quotas = suite('tenants: Galera');
quotas.after(() => galera.stop());

quotas(
  'a quota: servers on three nodes that take addresses for one tenant at once do not pass it',
  async () => {
    await galera.create('tenants');
    const stores = range(3).map(node => galera.store(node, 'tenants'));
    await stores[0]?.migrate();
    assert.is(await raceFor(stores, 7), 7);
    for (const store of stores) await store.close();
  },
);
quotas.run();

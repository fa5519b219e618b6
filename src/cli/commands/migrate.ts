/** The command `migrate`: brings the schema of the store up to date. */
import { command } from '../command.ts';
import { STORE_SETTINGS } from '../settings/settings.ts';

export const migrate = command({
  name: 'migrate',
  summary: "bring the ledger's schema up to date, from empty or from the ancestor's table, losing nothing",
  usage: '',
  args: { min: 0, max: 0 },
  settings: STORE_SETTINGS,
  options: {},
  async run({ config, log, io, assemble }) {
    const { store } = await assemble(config, log);
    const before = await store.outdated();
    await store.migrate();
    await store.close();
    io.out.write(before === null ? 'the ledger is up to date\n' : 'the ledger was brought up to date\n');
    return 0;
  },
});

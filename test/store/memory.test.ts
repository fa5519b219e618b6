// Goal: the specification itself satisfies the contract. Method: a clock that only tests move.
import { createMemoryStore } from '../../src/store/memory.ts';
import { contract } from './store.contract.ts';

contract('memory', async () => {
  let now = 1_700_000_000_000;
  return {
    store: createMemoryStore({ clock: () => now }),
    advance: ms => {
      now += ms;
    },
    close: async () => {},
  };
});

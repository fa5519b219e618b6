// Goal: the specification itself satisfies the contract. Method: a clock that only tests move.
import { createMemoryStore } from '../../src/store/memory.ts';
import { contractByClock } from './store.contract.ts';

contractByClock('memory', clock => createMemoryStore({ clock }));

'use strict';

const { BoxliteError } = require('./errors');
const { Runtime } = require('./runtime');
const { version } = require('./native');

module.exports = { BoxliteError, Runtime, version };

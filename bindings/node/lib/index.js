'use strict';

const { Box } = require('./box');
const { BoxliteError } = require('./errors');
const { Exec } = require('./exec');
const { Runtime } = require('./runtime');
const { version } = require('./native');

module.exports = { Box, BoxliteError, Exec, Runtime, version };
